"""One task as Airflow would run it, in a process of its own, which is a fork of one that has imported what takes long.

What a step returns goes to the file named by RESULT as JSON, and its log to stderr, as a task's log would.
"""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include.errors import ConfigurationError, InputError
from include.wandb_tracking.errors import ModelDeleted, TrackingUnavailable
from include.wandb_tracking.models import ModelReference, fetch_model, give_alias, publish_model
from include.wandb_tracking.runs import log_images, tracked_run

KINDS = (ModelDeleted, InputError, ConfigurationError, TrackingUnavailable)


def train(given: dict[str, Any]) -> dict[str, Any]:
    """Record a run and publish its model."""
    config = {"n_estimators": given.get("n_estimators", 100), "test_share": 0.3}
    if largest := given.get("largest_file"):
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (largest, largest)
        )  # bytes; what a full disk is to everybody, for this task
    with tracked_run(given["run_id"], job_type="train", group="g", tags=["churn"], config=config) as tracked:
        tracked.run.log({"auc": 0.75, "notes": "x" * given.get("much", 0)})
        log_images(tracked, {"roc": bytes.fromhex(given["png"])})
        tracked.run.summary["baseline"] = 0.5
        _wait_for(given)
        files = {"model.skops": given["model"].encode(), "card.json": b"{}"}
        reference = publish_model(
            tracked, files, "churn_classifier", metadata={"rows": 100}, timeout=given.get("timeout", 60)
        )
        _wait_for(given, "before_finish")
        return {
            "reference": asdict(reference),
            "link": tracked.link,
            "folder": str(tracked.folder),
            "sync": tracked.sync_command,
        }


def predict(given: dict[str, Any]) -> dict[str, Any]:
    """Continue the run and use its model."""
    reference = ModelReference(**given["reference"])
    with tracked_run(given["run_id"], job_type="predict", group="g", resume=True) as tracked:
        content = b""
        if tracked.online:
            content = fetch_model(tracked, reference, timeout=given.get("timeout", 60))
        tracked.run.log({"mean_probability": 0.25})
        tracked.run.summary["predictions"] = 100
        _wait_for(given, "before_finish")
        return {
            "same": content == given["model"].encode(),
            "link": tracked.link,
            "folder": str(tracked.folder),
            "sync": tracked.sync_command,
        }


def fail(given: dict[str, Any]) -> None:
    """Raise inside a run."""
    with tracked_run(given["run_id"], job_type="train") as tracked:
        tracked.run.log({"auc": 0.75})
        raise ArithmeticError("the task's own error")


def mark(given: dict[str, Any]) -> None:
    """Give the model an alias, as the gate does."""
    with tracked_run(given["run_id"], job_type="gate", resume=True) as tracked:
        give_alias(tracked, ModelReference(**given["reference"]), "champion")


def promote(given: dict[str, Any]) -> list[str]:
    """Give a version another alias, by the public API."""
    import wandb

    artifact = wandb.Api().artifact(given["name"])
    artifact.aliases.append("champion")
    artifact.save()
    return wandb.Api().artifact(given["name"].partition(":")[0] + ":champion").aliases


def starts(given: dict[str, Any]) -> dict[str, Any]:
    """Start several runs one after the other, and tell what came of each by its id."""
    came_of_it: dict[str, Any] = {}
    for run_id in given["run_ids"]:
        try:
            with tracked_run(run_id, job_type="train"):
                came_of_it[run_id] = {"error": None}
        except Exception as error:
            logging.exception("the run %s failed", run_id)
            came_of_it[run_id] = describe(error)
    return came_of_it


def describe(error: Exception) -> dict[str, Any]:
    """What a test wants to know of an error."""
    kind = next((each for each in KINDS if isinstance(error, each)), type(error))
    return {"error": kind.__name__, "message": str(error), "retryable": isinstance(error, ConnectionError)}


def _wait_for(given: dict[str, Any], moment: str = "before_publish") -> None:
    """Tell the test that this moment has come and wait until it has done what it wants to do."""
    if given.get("stop") == moment:
        Path(given["reached"]).touch()
        while not Path(given["go_on"]).exists():
            time.sleep(0.02)


def main(name: str, given: dict[str, Any]) -> None:
    """Run the step of this name (tests/helpers/forks.py)."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    step: Callable[[dict[str, Any]], Any] = globals()[name]
    outcome: dict[str, Any] = {}
    try:
        outcome["result"] = step(given)
    except Exception as error:
        logging.exception("the task failed")
        outcome |= describe(error)
    Path(os.environ["RESULT"]).write_text(json.dumps(outcome), encoding="utf-8")
