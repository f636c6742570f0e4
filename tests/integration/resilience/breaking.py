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
from tenacity import Retrying, retry_if_not_result, stop_after_delay, wait_fixed

from tests.support.local_stack import RunningStack, services

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


def await_that(condition: Callable[[], Any], seconds: float = 120, every: float = 0.3) -> Any:
    """Wait until the condition holds and return its value."""
    return Retrying(retry=retry_if_not_result(bool), stop=stop_after_delay(seconds), wait=wait_fixed(every))(condition)


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


def mlflow_runs(stack: RunningStack, task: str) -> list[Any]:
    """The MLflow runs of a task (dag/run/task), not deleted, in all experiments."""
    experiments = [each.experiment_id for each in stack.mlflow.search_experiments()]
    return stack.mlflow.search_runs(experiments, f"tags.`airflow.task` = '{task}'")


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
