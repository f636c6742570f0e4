"""The drift check of a batch, recorded in an MLflow store of its own."""

import logging
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from include.possum import drift_check
from include.possum.animals import input_columns
from include.possum.drift_check import check_batch
from include.possum.tracking import DRIFT_REFERENCE
from include.settings import Settings


@pytest.fixture
def model(experiment, complete) -> dict[str, Any]:
    """A model's run with the rows that it was trained on."""
    client = mlflow.MlflowClient()
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, complete[input_columns()].to_csv(index=False), DRIFT_REFERENCE)
    return {"run_id": run_id, "experiment_id": experiment, "name": "m", "version": "3"}


@pytest.fixture
def batch(complete):
    """Animals a little fatter than those trained on: drift or not, depending on how sure one wants to be."""
    return complete[input_columns()].assign(belly=complete["belly"] + 1.5)


def task(run_id: str) -> dict[str, Any]:
    return {"ti": SimpleNamespace(dag_id="predict", run_id=run_id, task_id="check_drift")}


def checks(model: dict[str, Any]) -> list[Any]:
    return mlflow.MlflowClient().search_runs([model["experiment_id"]], f"tags.model_run_id = '{model['run_id']}'")


@pytest.mark.parametrize(("significance", "drifted", "tag"), [("0.001", False, "none"), ("0.2", True, "detected")])
def test_drift_significance_decides_on_the_verdict(model, batch, monkeypatch, significance, drifted, tag):
    monkeypatch.setenv("PIPELINES_DRIFT_SIGNIFICANCE", significance)
    monkeypatch.setattr(drift_check, "settings", Settings())

    report = check_batch(task("manual__1"), model, batch)

    assert report.drifted is drifted
    (run,) = checks(model)
    assert run.data.tags["drift"] == tag
    assert run.data.metrics["drift_detected"] == drifted
    assert report.sentence in run.data.tags["mlflow.note.content"]


def test_second_attempt_of_a_task_finds_the_check_of_the_first_and_says_so(model, batch, caplog):
    first = check_batch(task("manual__1"), model, batch)
    (recorded,) = checks(model)
    caplog.clear()

    with caplog.at_level(logging.INFO):
        second = check_batch(task("manual__1"), model, batch)

    assert "An earlier attempt of this task has recorded the check" in caplog.messages
    assert second.p_value == first.p_value
    assert [run.info.run_id for run in checks(model)] == [recorded.info.run_id]


def test_each_scoring_has_a_check_of_its_own_also_of_the_same_batch(model, batch):
    for run_id in ("manual__1", "manual__2"):
        check_batch(task(run_id), model, batch)

    tasks = {run.data.tags["airflow.task"] for run in checks(model)}
    assert tasks == {"predict/manual__1/check_drift", "predict/manual__2/check_drift"}
    assert len(checks(model)) == 2


def test_another_attempt_with_other_animals_is_another_check(model, batch):
    check_batch(task("manual__1"), model, batch)
    check_batch(task("manual__1"), model, batch.head(50))

    assert len(checks(model)) == 2
