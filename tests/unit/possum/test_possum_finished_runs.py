"""Work that is done already is found, and work that was done twice at the same time is kept once."""

from typing import Any

import pytest

from include import mlflow_tracking
from include.possum import tracking
from tests.helpers.kills import kill_at, mlflow_writes


@pytest.fixture
def reference(possums, animals) -> dict[str, Any]:
    possums.begin_afresh()
    return possums.feature_eng(animals)


def train_as_if_nobody_else_did(possums, reference, run: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The first look for a finished run finds none: the other one ends only afterwards."""
    looks = iter([lambda *_: None])

    def find(*arguments: Any) -> Any:
        return next(looks, mlflow_tracking.find_finished_run)(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "find_finished_run", find)
        return possums.train(reference, run)


def trainings(possums) -> list[str]:
    found = possums.client.search_runs([possums.experiment], "attributes.run_name = 'RidgeCV'")
    return [run.info.run_id for run in found]


def models(possums) -> int:
    return len(possums.client.search_logged_models([possums.experiment], "name = 'model'"))


def test_another_dag_run_finds_what_is_done(possums, reference):
    assert possums.train(reference, "one") == possums.train(reference, "two")
    assert (len(trainings(possums)), models(possums)) == (1, 1)


def test_of_two_at_the_same_time_both_go_on_with_the_one_that_ended_first(possums, reference, monkeypatch):
    first = possums.train(reference, "one")
    second = train_as_if_nobody_else_did(possums, reference, "two", monkeypatch)

    assert second == first
    assert trainings(possums) == [first["run_id"]]
    assert models(possums) == 1


@pytest.mark.parametrize("write", [1, 2])
def test_the_one_that_ended_later_is_deleted_although_its_task_was_killed_before_that(
    possums, reference, monkeypatch, write
):
    first = possums.train(reference, "one")
    deletes = [target for target in mlflow_writes() if target[1] in ("delete_logged_model", "delete_run")]
    with kill_at(write, deletes):
        train_as_if_nobody_else_did(possums, reference, "two", monkeypatch)
    assert len(trainings(possums)) == 2

    assert possums.train(reference, "two") == first
    assert trainings(possums) == [first["run_id"]]
    assert models(possums) == 1


def test_a_run_of_another_task_is_never_deleted(possums, reference, monkeypatch):
    first = possums.train(reference, "one")
    with kill_at(1, [target for target in mlflow_writes() if target[1] == "delete_logged_model"]):
        train_as_if_nobody_else_did(possums, reference, "two", monkeypatch)

    assert possums.train(reference, "three") == first
    assert len(trainings(possums)) == 2


def test_mlflow_names_the_dags_file_as_the_runs_source(possums, reference):
    runs = [possums.train(reference)["run_id"], reference["scaler_run_id"]]
    sources = [possums.client.get_run(run).data.tags["mlflow.source.name"] for run in runs]
    assert sources == ["dags/train.py", "dags/feature_eng.py"]
