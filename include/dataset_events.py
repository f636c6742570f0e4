"""What one DAG hands to the next: references in the asset event, not the data and not "the latest"."""

import logging
from typing import Any

from airflow.sdk import Asset

from include.errors import InputError

log = logging.getLogger(__name__)


def reference_from_event(context: Any, asset: Asset, needed: set[str]) -> dict[str, Any]:
    """The newest event's ``extra`` among those that triggered this run, or, without any, among all complete ones.

    The task must list the asset among its inlets. An event that lacks a ``needed`` key was sent by hand from the UI, for
    example: a run that was started by hand passes it over. Raises InputError where no event is left, or where the one that
    triggered this run is such an event.
    """
    if triggering := context["triggering_asset_events"].get(asset):
        event = max(triggering, key=lambda event: event.timestamp)
        reason = "that triggered this run"
        if len(triggering) > 1:
            reason += f" (the newest of {len(triggering)} that came in meanwhile)"
    else:
        past = context["inlet_events"][asset]
        if not len(past):
            raise InputError(
                f"asset {asset.name} has never been updated, so there is nothing to work on: "
                "run the DAG that updates it first (feature_eng, then train, then predict)"
            )
        event = next((event for event in reversed(past) if needed <= set(event.extra or {})), past[-1])
        reason = "that is the newest, as this run was started by hand and not by an asset"
        if event.timestamp != past[-1].timestamp:
            reason += "; newer ones, which say too little, are passed over"
    if missing := needed - set(event.extra or {}):
        raise InputError(
            f"the event of asset {asset.name} of {event.timestamp:%Y-%m-%d %H:%M:%S} lacks {', '.join(sorted(missing))}, "
            "it was probably made by hand: run the DAG that updates the asset (likewise for one of an earlier version of "
            "this project)"
        )
    log.info(
        "Using the event of %s %s: from run %s of %s\n%s",
        asset.name,
        reason,
        event.source_run_id,
        event.source_dag_id,
        _as_lines(event.extra),
    )
    return dict(event.extra)


def is_triggered_by(context: Any, asset: Asset) -> bool:
    """Whether events of the asset have triggered this run; otherwise somebody has, by hand."""
    return bool(context["triggering_asset_events"].get(asset))


def hand_over(outlet_events: Any, asset: Asset, reference: dict[str, Any]) -> None:
    """Put the reference into the asset event that Airflow makes when the task succeeds."""
    outlet_events[asset].extra = reference
    log.info("Asset %s is updated with\n%s", asset.name, _as_lines(reference))


def _as_lines(reference: dict[str, Any]) -> str:
    """For a log; figures are in MLflow."""
    return "\n".join(f"  {key}: {value}" for key, value in reference.items() if not isinstance(value, dict))
