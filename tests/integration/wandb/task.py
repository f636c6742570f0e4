"""One task as Airflow would run it, in a process of its own: ``python task.py STEP [JSON]``.

What a step returns goes to the file named by RESULT as JSON, and its log to stderr, as a task's log would.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include import wandb_tracking as tracking


def train(given: dict[str, Any]) -> dict[str, Any]:
    """Record a run and publish its model."""
    config = {"n_estimators": given.get("n_estimators", 100), "test_share": 0.3}
    with tracking.tracked_run(given["run_id"], job_type="train", group="g", tags=["churn"], config=config) as tracked:
        tracked.run.log({"auc": 0.75})
        tracking.log_images(tracked, {"roc": bytes.fromhex(given["png"])})
        tracked.run.summary["baseline"] = 0.5
        _wait_for(given)
        files = {"model.skops": given["model"].encode(), "card.json": b"{}"}
        reference = tracking.publish_model(
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
    reference = tracking.ModelReference(**given["reference"])
    with tracking.tracked_run(given["run_id"], job_type="predict", group="g", resume=True) as tracked:
        content = b""
        if tracked.online:
            content = tracking.fetch_model(tracked, reference, timeout=given.get("timeout", 60))
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
    with tracking.tracked_run(given["run_id"], job_type="train") as tracked:
        tracked.run.log({"auc": 0.75})
        raise ArithmeticError("the task's own error")


def promote(given: dict[str, Any]) -> list[str]:
    """Give a version another alias, by the public API."""
    import wandb

    artifact = wandb.Api().artifact(given["name"])
    artifact.aliases.append("champion")
    artifact.save()
    return wandb.Api().artifact(given["name"].partition(":")[0] + ":champion").aliases


def _wait_for(given: dict[str, Any], moment: str = "before_publish") -> None:
    """Tell the test that this moment has come and wait until it has done what it wants to do."""
    if given.get("stop") == moment:
        Path(given["reached"]).touch()
        while not Path(given["go_on"]).exists():
            time.sleep(0.02)


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    step: Callable[[dict[str, Any]], Any] = globals()[sys.argv[1]]
    outcome: dict[str, Any] = {}
    try:
        outcome["result"] = step(json.loads(sys.argv[2]))
    except Exception as error:
        logging.exception("the task failed")
        outcome["error"] = type(error).__name__
        outcome["message"] = str(error)
        outcome["retryable"] = isinstance(error, ConnectionError)
    Path(os.environ["RESULT"]).write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
