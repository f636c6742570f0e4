"""The same task in two processes at the same time: what is there afterwards is what one of them would have left."""

import copy
import inspect
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from include.settings import settings
from tests.support.possum_runs import mlflow_runs, versions_of_run

if TYPE_CHECKING:
    from tests.support.local_stack import RunningStack

TABLE = "pred_twice"
TRAIN = """
import json, sys
from types import SimpleNamespace
from include.mlflow_tracking import connect_mlflow
from include.possum import tracking
connect_mlflow()
reference, parameters, run_id, experiment = json.loads({arguments!r})
context = {{"ti": SimpleNamespace(dag_id="train", run_id=run_id, task_id="train_model")}}
features = tracking.read_features(reference)
print(json.dumps(tracking.train_model(context, experiment, features, reference, parameters)["run_id"]))
"""


def both(function: Callable[[], Any]) -> list[Future]:
    """Call it twice, at the same moment."""
    gate = threading.Barrier(2)

    def call() -> Any:
        gate.wait()
        return function()

    with ThreadPoolExecutor(2) as pool:
        return [pool.submit(call) for _ in range(2)]


def results(futures: list[Future]) -> list[Any]:
    return [each.result() for each in futures if not each.exception()]


@pytest.fixture(scope="module")
def features(breakable: "RunningStack") -> dict[str, Any]:
    """Features to train on: those of the newest run of feature_eng, or of a new one."""
    found = breakable.query(
        "SELECT source_run_id FROM dataset_event WHERE source_dag_id = 'feature_eng' ORDER BY timestamp DESC LIMIT 1"
    )
    run = found[0][0] if found else breakable.airflow.trigger("feature_eng")
    breakable.airflow.wait_for_success("feature_eng", run)
    return breakable.airflow.xcom("feature_eng", run, "end")


@pytest.fixture(scope="module")
def trained(breakable: "RunningStack", features: dict[str, Any]) -> tuple[str, set[str]]:
    """The task's name, and the MLflow runs that its two processes have returned."""
    import json

    run_id = f"twice-{uuid.uuid4().hex[:8]}"
    experiment = breakable.mlflow.get_experiment_by_name(settings.possum.experiment_name)
    assert experiment
    parameters = {"alphas": [0.1, 1.0, uuid.uuid4().int % 1000 + 2.0]}  # that nobody has trained with
    arguments = json.dumps([features, parameters, run_id, experiment.experiment_id])
    code = TRAIN.format(arguments=arguments)
    returned = results(both(lambda: breakable.python(code)))
    if not returned:  # each has found the other's unfinished run and deleted it: then a retry comes
        returned = [breakable.python(code)]
    return f"train/{run_id}/train_model", set(returned)


def test_training_twice_leaves_one_finished_run(breakable, trained):
    task, returned = trained
    (run,) = mlflow_runs(breakable, task)
    assert run.info.status == "FINISHED"
    assert returned == {run.info.run_id}


def test_registering_twice_makes_one_version(breakable, stack_connections, trained):
    from include.mlflow_registry import EnsureModelVersionOperator

    (mlflow_run,) = trained[1]
    name = f"twice_{uuid.uuid4().hex[:8]}"
    breakable.mlflow.create_registered_model(name)
    operator = EnsureModelVersionOperator(
        task_id="create_model_version",
        mlflow_conn_id=settings.mlflow_conn_id,
        name=name,
        source="s3://mlflowdatapossums/models/any",
        run_id=mlflow_run,
    )
    # without Airflow's watch over calls of execute, which knows one thread only
    execute = inspect.unwrap(EnsureModelVersionOperator.execute)
    made = results(both(lambda: execute(copy.copy(operator), {})))
    versions = {each["model_version"]["version"] for each in made}
    (left,) = versions_of_run(breakable, mlflow_run)
    assert versions == {str(left)}
    breakable.mlflow.delete_registered_model(name)


def test_replacing_predictions_twice_leaves_one_whole_table(breakable, stack_connections):
    from include.churn.warehouse import replace_predictions

    rows = 5_000
    predictions = pd.DataFrame({"customer_id": range(rows), "churn_probability": 0.5, "used_for_training": True})
    predictions["model_version"] = "m"
    assert len(results(both(lambda: replace_predictions(predictions, TABLE)))) == 2  # the second has waited
    schema = settings.churn.warehouse_schema
    sql = f"SELECT count(*), count(DISTINCT customer_id) FROM {schema}.{TABLE}"
    assert breakable.query(sql, database="warehouse") == [(rows, rows)]
    sql = f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' AND tablename LIKE '{TABLE}%%'"
    assert breakable.query(sql, database="warehouse") == [(TABLE,)]


def test_writing_an_object_twice_leaves_one_of_them_whole(breakable, stack_connections):
    from include.object_store import read_object, write_object

    contents = [bytes([number]) * 3_000_000 for number in range(2)]
    remaining = list(contents)
    uri = "s3://resilience/twice.bin"
    futures = both(lambda: write_object(uri, remaining.pop()))
    assert len(results(futures)) == 2
    assert read_object(uri) in contents
