"""With the objects that Airflow puts into a task's context, and what its server says, of an empty database in memory."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.api_fastapi.execution_api.datamodels.taskinstance import AssetEventDagRunReference
from airflow.api_fastapi.execution_api.routes.asset_events import get_asset_event_by_asset_name_uri
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.base import Base
from airflow.models.dagrun import DagRun
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    AssetEventDagRunReferenceResult,
    AssetEventsResult,
    ErrorResponse,
    GetAssetEventByAsset,
)
from airflow.sdk.execution_time.context import InletEventsAccessors, TriggeringAssetEventsAccessor
from pydantic import ValidationError
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from include.dataset_events import is_triggered_by, reference_from_event
from include.datasets import MODEL_TRAINED, POSSUM_FEATURES
from include.errors import InputError
from include.task_errors import hopeless

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Airflow:
    """Events of the assets as they lie in Airflow's database, and contexts of tasks."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ids = {}
        for asset in (POSSUM_FEATURES, MODEL_TRAINED):
            model = AssetModel(name=asset.name, uri=asset.uri, group=asset.group)
            session.add(model)
            session.flush()
            self.ids[asset.name] = model.id

    def send(self, message: GetAssetEventByAsset) -> AssetEventsResult | ErrorResponse:
        """What the process that watches a task's answers it, from the server's."""
        wanted = message.model_dump(exclude={"type", "after", "before"})
        try:
            answer = get_asset_event_by_asset_name_uri(**wanted, session=self.session)
        except ValidationError as error:  # HTTP status 500
            return ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"message": str(error)})
        return AssetEventsResult.model_validate(answer.model_dump())

    def event(self, extra: dict[str, Any], minute: int = 0, asset: Asset = POSSUM_FEATURES) -> AssetEvent:
        event = AssetEvent(
            asset_id=self.ids[asset.name],
            extra=extra,
            source_dag_id="feature_eng",
            source_run_id=f"manual__{minute}",
            timestamp=NOON + timedelta(minutes=minute),
        )
        self.session.add(event)
        self.session.flush()
        return event

    def context(self, *triggering: AssetEvent, inlet: Asset = POSSUM_FEATURES) -> dict[str, Any]:
        """Of a run that these events have triggered, or, without any, of one that was started by hand."""
        sent = [AssetEventDagRunReference.model_validate(event, from_attributes=True) for event in triggering]
        return {
            "triggering_asset_events": TriggeringAssetEventsAccessor.build(
                AssetEventDagRunReferenceResult.model_validate(event.model_dump()) for event in sent
            ),
            "inlet_events": InletEventsAccessors([inlet]),
        }


@pytest.fixture
def airflow(monkeypatch) -> Iterator[Airflow]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        server = Airflow(session)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", server, raising=False)
        yield server


def test_run_is_triggered_by_the_assets_of_its_events_and_by_no_others(airflow):
    context = airflow.context(airflow.event({}))
    assert is_triggered_by(context, POSSUM_FEATURES)
    assert not is_triggered_by(context, MODEL_TRAINED)
    assert not is_triggered_by(airflow.context(), POSSUM_FEATURES)


def test_triggering_event_is_used_and_not_a_newer_one(airflow):
    own = airflow.event({"uri": "own"}, minute=1)
    airflow.event({"uri": "newer"}, minute=2)
    assert reference_from_event(airflow.context(own), POSSUM_FEATURES, needed={"uri"}) == {"uri": "own"}


def test_newest_of_several_triggering_events_is_used_and_said(airflow, caplog):
    events = [airflow.event({"uri": uri}, minute) for uri, minute in (("b", 2), ("c", 3), ("a", 1))]
    with caplog.at_level(logging.INFO):
        assert reference_from_event(airflow.context(*events), POSSUM_FEATURES, needed={"uri"}) == {"uri": "c"}
    assert "the newest of 3 that came in meanwhile" in caplog.text


def test_run_by_hand_uses_the_newest_past_event_and_says_so(airflow, caplog):
    # the newest is not the one that was written last
    for uri, minute in (("older", 1), ("new", 3), ("old", 2)):
        airflow.event({"uri": uri}, minute)
    with caplog.at_level(logging.INFO):
        assert reference_from_event(airflow.context(), POSSUM_FEATURES, needed={"uri"}) == {"uri": "new"}
    assert "started by hand" in caplog.text
    assert "from run manual__3 of feature_eng" in caplog.text
    assert "passed over" not in caplog.text


def test_run_by_hand_passes_over_newer_events_that_say_too_little_and_says_so(airflow, caplog):
    airflow.event({"uri": "old", "sha256": "0"}, minute=1)
    airflow.event({"uri": "new", "sha256": "1", "more": "x"}, minute=2)
    for minute, extra in enumerate(({}, {"from_rest_api": True}, {"uri": "half"}), start=3):
        airflow.event(extra, minute)
    with caplog.at_level(logging.INFO):
        reference = reference_from_event(airflow.context(), POSSUM_FEATURES, needed={"uri", "sha256"})
    assert reference == {"uri": "new", "sha256": "1", "more": "x"}
    assert "newer ones, which say too little, are passed over: from run manual__2 of feature_eng" in caplog.text


def test_run_by_hand_with_nothing_but_events_that_say_too_little_tells_of_the_newest_what_it_lacks(airflow):
    airflow.event({"uri": "x", "sha256": "0"}, minute=1, asset=MODEL_TRAINED)  # of another asset
    airflow.event({"sha256": "0"}, minute=2)
    airflow.event({"uri": "x"}, minute=3)
    with pytest.raises(InputError, match=r"2026-11-20 12:03:00 lacks sha256, it was probably made by hand"):
        reference_from_event(airflow.context(), POSSUM_FEATURES, needed={"uri", "sha256"})


def test_events_of_another_dataset_do_not_count(airflow):
    features = airflow.event({"uri": "features"})
    with pytest.raises(InputError, match="model_trained has never been updated"):
        reference_from_event(airflow.context(features, inlet=MODEL_TRAINED), MODEL_TRAINED, needed=set())


def test_no_event_at_all_says_which_dags_to_run(airflow):
    with pytest.raises(InputError, match=r"s3://data_possum\.csv has never been updated.*feature_eng, then train"):
        reference_from_event(airflow.context(), POSSUM_FEATURES, needed={"uri"})


@pytest.mark.parametrize("extra", [{}, {"uri": "s3://data/x"}])
def test_triggering_event_made_by_hand_is_refused_with_what_it_lacks_even_if_there_is_a_complete_one(airflow, extra):
    airflow.event({"uri": "s3://data/old", "sha256": "0"}, minute=-1)
    with pytest.raises(InputError, match=r"2026-11-20 12:00:00 lacks .*sha256.* made by hand"):
        reference_from_event(airflow.context(airflow.event(extra)), POSSUM_FEATURES, needed={"uri", "sha256"})


def test_airflow_cannot_tell_of_past_events_while_a_run_of_theirs_waits_so_the_task_is_tried_again(airflow):
    """3.3.2 answers with an error as long as a run that one of the events has triggered has not begun."""
    event = airflow.event({"uri": "a"})
    waiting = DagRun(dag_id="train", run_id="asset_triggered__1", run_type="asset_triggered", state="queued")
    event.created_dagruns.append(waiting)
    with pytest.raises(AirflowRuntimeError, match="start_date") as raised:
        reference_from_event(airflow.context(), POSSUM_FEATURES, needed={"uri"})
    assert hopeless(raised.value) is None
    waiting.start_date = NOON
    assert reference_from_event(airflow.context(), POSSUM_FEATURES, needed={"uri"}) == {"uri": "a"}


def test_changing_the_reference_does_not_change_the_event(airflow):
    event = airflow.event({"uri": "a"})
    reference_from_event(airflow.context(event), POSSUM_FEATURES, needed={"uri"})["uri"] = "b"
    assert event.extra == {"uri": "a"}


def test_dataset_names_are_the_tutorials():
    assert POSSUM_FEATURES.name == "s3://data_possum.csv"
    assert MODEL_TRAINED.name == "model_trained"
