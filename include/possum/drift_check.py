"""The drift check of a batch of animals: against the training rows of the model that scores them, recorded in MLflow."""

import io
import logging
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from include.drift import DriftReport, compare, render_report
from include.mlflow_tracking import find_finished_run, record_run, task_name, task_run
from include.possum.tracking import DRIFT_REFERENCE, digest_of_inputs
from include.settings import settings

log = logging.getLogger(__name__)

DRIFT_RUN = "Drift check"


def read_reference(run_id: str) -> pd.DataFrame:
    """The training rows that a training run keeps for this check."""
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.MlflowClient().download_artifacts(run_id, DRIFT_REFERENCE, folder)
        return pd.read_csv(io.BytesIO(Path(path).read_bytes()), float_precision="round_trip")


def check_batch(context: Any, model: dict[str, Any], batch: pd.DataFrame) -> DriftReport:
    """Compare the batch with the model's training rows and record figures and report in an MLflow run of its own.

    Args:
        context: of the Airflow task.
        model: ``run_id``, ``experiment_id``, ``name`` and ``version`` of the model.
        batch: the rows to be scored, shape (n, at least the model's input columns).

    """
    reference = read_reference(model["run_id"])
    report = compare(
        reference,
        batch,
        categorical=list(settings.possum.categorical_columns),
        numeric=list(settings.possum.numeric_columns),
        significance=settings.pipelines.drift_significance,
    )
    title = f"Drift of {len(batch)} animals against {model['name']} version {model['version']}"
    tags = {
        "drift": "detected" if report.drifted else "none",
        "model_version": model["version"],
        "model_run_id": model["run_id"],
        "step": "drift check",
        "mlflow.note.content": f"{report.sentence}. The report is artifact drift/report.html.",
    }
    experiment_id = model["experiment_id"]
    # of this task only: each scoring has a check of its own, also of a batch that was scored before
    inputs = digest_of_inputs(task_name(context), model["run_id"], batch.to_csv(index=False))
    if done := find_finished_run(context, experiment_id, DRIFT_RUN, inputs):
        log.info("An earlier attempt of this task has recorded the check")
        record_run(done)
    else:
        with task_run(context, experiment_id, DRIFT_RUN, inputs=inputs, tags=tags):
            mlflow.log_metrics(report.metrics())
            mlflow.log_text(render_report(reference, batch, report, title), "drift/report.html")
        find_finished_run(context, experiment_id, DRIFT_RUN, inputs)
    (log.warning if report.drifted else log.info)(report.sentence)
    return report
