"""The predictions' table and plot: made, and put where people look for them."""

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from include.errors import InputError
from include.links import MLflowRunLink, ObjectsLink, object_url, record_link, run_url
from include.object_store import write_object
from include.possum.plots import figure_to_png, plot_predictions
from include.settings import INCLUDE, settings

log = logging.getLogger(__name__)


def join_predictions(predictions: pd.DataFrame, target: pd.DataFrame) -> pd.DataFrame:
    """Put prediction and truth together by the animal's key.

    Args:
        predictions: key and ``predicted_<target>`` in cm, shape (n, 2).
        target: key, true tail length in cm and ``used_for_training``, for these animals at least, in any order.

    Returns:
        One row for each scored animal, in the order of ``predictions``: key, ``true_<target>``, ``predicted_<target>`` and
        ``used_for_training``.

    Raises:
        InputError: if an animal is missing in ``target``.

    """
    key, name = settings.possum.key_column, settings.possum.target_column
    joined = predictions.merge(target[[key, name, "used_for_training"]], on=key, how="left", validate="one_to_one")
    if missing := joined.loc[joined["used_for_training"].isna(), key].tolist():
        raise InputError(
            f"The file has changed while it was scored, and lacks {key} {missing[:5]} now: run predict again"
        )
    log.info("%d predictions; for %d of them the true value is known", len(joined), joined[name].notna().sum())
    joined = joined.rename(columns={name: f"true_{name}"})
    return joined[[key, f"true_{name}", f"predicted_{name}", "used_for_training"]]


def save_predictions(predictions: pd.DataFrame, uri: str) -> dict[str, Any]:
    """Write the table as CSV and return ``{"uri", "sha256", "rows"}``."""
    sha256 = write_object(uri, predictions.to_csv(index=False).encode())
    log.info("%d predictions written to %s, SHA-256 %s", len(predictions), uri, sha256)
    record_link(ObjectsLink, object_url(uri))
    return {"uri": uri, "sha256": sha256, "rows": len(predictions)}


def publish_plot(
    predictions: pd.DataFrame, uri: str, model: dict[str, Any], *, other_animals: str | None
) -> dict[str, str]:
    """Draw the predictions and put the picture into the data bucket, the model's MLflow run, and include/plots.

    Args:
        predictions: see join_predictions and baseline.mark_predictions.
        uri: for the object, ``s3://...``.
        model: ``run_id``, ``experiment_id``, ``name``, ``version``, ``metrics`` of the model.
        other_animals: a name for a batch that somebody chose to score, instead of the event's animals: its picture must
            not take the place of theirs, so it lies in a folder of this name, and not in include/plots.

    Returns:
        ``{"uri", "sha256", "artifact"}``, the last one the path among the run's artifacts.

    """
    metrics = model["metrics"]
    subtitle = (
        f"{model['name']} version {model['version']}: on the {metrics['rows_holdout']:.0f} holdout animals "
        f"R² {metrics['holdout_r2']:.2f}, RMSE {metrics['holdout_rmse_cm']:.2f} cm"
    )
    if predictions["better_than_baseline"].eq(False).any():
        subtitle += ", no better here than predicting the mean"
    png = figure_to_png(plot_predictions(predictions, INCLUDE / settings.possum.picture_path, subtitle=subtitle))
    sha256 = write_object(uri, png)
    folder_of_run = f"plots/{other_animals}" if other_animals else "plots"
    artifact = f"{folder_of_run}/{settings.possum.plot_file_name}"
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, settings.possum.plot_file_name)
        local.write_bytes(png)
        mlflow.MlflowClient().log_artifact(model["run_id"], str(local), folder_of_run)
    log.info("Plot of %d animals: %s and artifact %s of the model's run", len(predictions), uri, artifact)
    record_link(ObjectsLink, object_url(uri))
    record_link(MLflowRunLink, run_url(model["experiment_id"], model["run_id"]))
    if not other_animals:
        # for who has include/ on this machine; elsewhere it may be missing or not writable, and the object is what counts
        with suppress(OSError):
            copy_atomically(png, INCLUDE / "plots" / settings.possum.plot_file_name)
            log.info("Copied to include/plots/%s", settings.possum.plot_file_name)
    return {"uri": uri, "sha256": sha256, "artifact": artifact}


def copy_atomically(data: bytes, path: Path) -> None:
    """Write the file so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(name).chmod(0o644)
    Path(name).replace(path)
