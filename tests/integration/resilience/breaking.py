"""Break things on a running stack at a chosen moment, and count what is left."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from include.object_store import sha256_hex
from include.settings import settings
from tests.support.local_stack import RunningStack, services
from tests.support.possum_runs import Round, mlflow_runs

psutil = services.psutil  # only where the stack is installed

TASK = "airflow task runner:"  # the title of the process in which a task's code runs
LOOK = 0.05  # seconds between two looks at the running tasks
RUNNING = "SELECT dag_id, task_id, run_id, pid FROM task_instance WHERE state = 'running' AND try_number = 1"
# whoever holds this row cannot be overtaken by the task's own end
STILL_RUNNING = "SELECT 1 FROM task_instance WHERE dag_id = %s AND task_id = %s AND run_id = %s AND pid = %s \
AND state = 'running' AND try_number = 1 FOR UPDATE"
# the pause before the next try is not what is tested
HURRY = "UPDATE task_instance SET end_date = end_date - interval '2 minutes' WHERE state = 'up_for_retry' \
AND end_date > now() - interval '1 minute'"


def kill_tree(process: services.psutil.Process) -> None:
    """SIGKILL for the process and all that descend from it; it is held first, so that nothing slips away."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


Moment = Callable[[str], bool]  # is it time, for the task that is named as dag/run/task?


def at_once(_: str) -> bool:
    """The moment for tasks that are short: as soon as they run."""
    return True


class Killer:
    """Kills the first try of each of the given tasks, in whichever run, when its moment has come."""

    def __init__(self, stack: RunningStack, moments: Mapping[tuple[str, str], Moment]) -> None:
        self._stack = stack
        self._left = dict(moments)
        self.killed: dict[tuple[str, str], str] = {}
        """Run by DAG and task."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        with closing(database(self._stack)) as connection, connection.cursor() as cursor:
            while self._left and not self._ended.wait(LOOK):
                cursor.execute(HURRY)
                cursor.execute(RUNNING)
                for dag_id, task_id, run_id, pid in cursor.fetchall():
                    moment = self._left.get((dag_id, task_id))
                    if moment and is_task_runner(pid) and moment(f"{dag_id}/{run_id}/{task_id}"):
                        self._kill(cursor, dag_id, task_id, run_id, pid)

    def _kill(self, cursor: Any, dag_id: str, task_id: str, run_id: str, pid: int) -> None:
        cursor.execute("BEGIN")
        cursor.execute(STILL_RUNNING, (dag_id, task_id, run_id, pid))
        if cursor.fetchone():
            kill_tree(psutil.Process(pid))
            self.killed[dag_id, task_id] = run_id
            del self._left[dag_id, task_id]
        cursor.execute("COMMIT")


def database(stack: RunningStack) -> Any:
    """A connection to Airflow's database that sees each change at once."""
    connection = psycopg2.connect(stack.stack.database_url("airflow").replace("+psycopg2", ""))
    connection.autocommit = True
    return connection


def is_task_runner(pid: int | None) -> bool:
    """Whether it is the process in which a task's code runs (before that it is the one that supervises)."""
    with contextlib.suppress(psutil.Error, TypeError):
        return " ".join(psutil.Process(pid).cmdline()).startswith(TASK)
    return False


def running(stack: RunningStack, dag_id: str, run_id: str, task_id: str) -> bool:
    """Whether the task's code runs now, or has run."""
    sql = "SELECT state, pid FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s"
    return any(
        state in ("success", "up_for_retry", "failed") or (state == "running" and is_task_runner(pid))
        for state, pid in stack.query(sql, dag_id, run_id, task_id)
    )


def tries(stack: RunningStack, dag_id: str, run_id: str) -> dict[str, int]:
    """How often each task of the run was tried."""
    return {task["task_id"]: task["try_number"] for task in stack.airflow.tasks(dag_id, run_id)}


@contextmanager
def away(stack: RunningStack, *names: str) -> Iterator[None]:
    """Services that do not answer meanwhile: their processes are stopped by supervisord."""
    supervisor = services.supervisor(stack.stack)
    for name in names:
        supervisor.stopProcess(name)
    try:
        yield
    finally:
        for name in names:
            supervisor.startProcess(name)


def pid_of(stack: RunningStack, name: str) -> int:
    """The process id of a service."""
    return services.supervisor(stack.stack).getProcessInfo(name)["pid"]


def kill_service(stack: RunningStack, name: str) -> None:
    """SIGKILL for a service, which supervisord starts again."""
    os.kill(pid_of(stack, name), signal.SIGKILL)


def handed_over(stack: RunningStack, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """What the dataset events of the run carry."""
    rows = stack.query(
        "SELECT extra FROM dataset_event WHERE source_dag_id = %s AND source_run_id = %s", dag_id, run_id
    )
    return [json.loads(extra) if isinstance(extra, str) else extra for (extra,) in rows]


# What must hold afterwards, whatever broke


def digest(stack: RunningStack, uri: str) -> str:
    """SHA-256 of the object as it is now."""
    return sha256_hex(stack.object(uri))


def unfinished_or_twice(stack: RunningStack, possum: Round) -> dict[str, list[str]]:
    """The steps of a round that have not exactly one MLflow run, which is finished; with the states of those they have."""
    steps = (
        f"feature_eng/{possum.feature_eng}/build_features",
        f"train/{possum.train}/train_model",
        f"predict/{possum.predict}/check_drift",
    )
    states = {step: [run.info.status for run in mlflow_runs(stack, step)] for step in steps}
    return {step: found for step, found in states.items() if found != ["FINISHED"]}


def counted(stack: RunningStack, predictions: str) -> set[tuple[int, int]]:
    """Rows and different customers of each table that a run of customer_analytics fills."""
    sql = f"SELECT count(*), count(DISTINCT customer_id) FROM {settings.warehouse_schema}."
    tables = ("stg_customers", "customers", predictions)
    return {row for table in tables for row in stack.query(sql + table, database="warehouse")}


def champion_predicts(stack: RunningStack) -> bool:
    """Whether the champion can be loaded from the registry, and scores the shipped animals, in a task's process."""
    return stack.python(f"""
import json
import mlflow
from include.mlflow_tracking import connect_mlflow
from include.possum.schema import complete_rows, read_animals
from include.settings import INCLUDE
connect_mlflow()
model = mlflow.pyfunc.load_model("models:/{settings.registered_model_name}@champion")
rows = complete_rows(read_animals(INCLUDE / "possum.csv", "possum.csv"))[0]
scores = model.predict(rows[model.metadata.signature.inputs.input_names()])
print(json.dumps(bool(len(scores) == len(rows) and 25 < scores.min() and scores.max() < 50)))
""")
