"""With the objects that Airflow puts into a task's context, without a scheduler."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.dataset_events import reference_from_event
from include.datasets import MODEL_TRAINED, POSSUM_FEATURES
from include.errors import InputError

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass
class Event:
    """What of Airflow's DatasetEvent is used."""

    extra: dict[str, Any] | None
    minute: int = 0
    source_run_id: str = "manual__1"
    source_dag_id: str = "feature_eng"
    timestamp: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.timestamp = NOON + timedelta(minutes=self.minute)


def context(triggering: list[Event] | None = None, past: list[Event] | None = None) -> dict[str, Any]:
    return {
        "triggering_dataset_events": {POSSUM_FEATURES.uri: triggering} if triggering else {},
        "inlet_events": {POSSUM_FEATURES: past or []},
    }


def test_triggering_event_is_used_and_not_a_newer_one():
    events = context([Event({"uri": "own"}, minute=1)], past=[Event({"uri": "own"}, 1), Event({"uri": "newer"}, 2)])
    assert reference_from_event(events, POSSUM_FEATURES, needed={"uri"}) == {"uri": "own"}


def test_newest_of_several_triggering_events_is_used_and_said(caplog):
    events = context([Event({"uri": "b"}, minute=2), Event({"uri": "c"}, minute=3), Event({"uri": "a"}, minute=1)])
    with caplog.at_level(logging.INFO):
        assert reference_from_event(events, POSSUM_FEATURES, needed={"uri"}) == {"uri": "c"}
    assert "the newest of 3 that came in meanwhile" in caplog.text


def test_run_by_hand_uses_the_newest_past_event_and_says_so(caplog):
    events = context(past=[Event({"uri": "old"}, minute=1), Event({"uri": "new"}, minute=2, source_run_id="manual__2")])
    with caplog.at_level(logging.INFO):
        assert reference_from_event(events, POSSUM_FEATURES, needed={"uri"}) == {"uri": "new"}
    assert "started by hand" in caplog.text
    assert "from run manual__2 of feature_eng" in caplog.text


def test_events_of_another_dataset_do_not_count():
    events = context([Event({"uri": "features"})]) | {"inlet_events": {MODEL_TRAINED: []}}
    with pytest.raises(InputError, match="model_trained has never been updated"):
        reference_from_event(events, MODEL_TRAINED, needed=set())


def test_no_event_at_all_says_which_dags_to_run():
    with pytest.raises(InputError, match=r"s3://data_possum\.csv/? has never been updated.*feature_eng, then train"):
        reference_from_event(context(), POSSUM_FEATURES, needed={"uri"})


@pytest.mark.parametrize("extra", [None, {}, {"uri": "s3://data/x"}])
def test_event_made_by_hand_is_refused_with_what_it_lacks(extra):
    with pytest.raises(InputError, match=r"2026-11-20 12:00:00 lacks .*sha256.* made by hand"):
        reference_from_event(context([Event(extra)]), POSSUM_FEATURES, needed={"uri", "sha256"})


def test_changing_the_reference_does_not_change_the_event():
    event = Event({"uri": "a"})
    reference_from_event(context([event]), POSSUM_FEATURES, needed={"uri"})["uri"] = "b"
    assert event.extra == {"uri": "a"}


def test_dataset_names_are_the_tutorials():
    assert POSSUM_FEATURES.uri.rstrip("/") == "s3://data_possum.csv"
    assert MODEL_TRAINED.uri == "model_trained"
