"""Break things on a running stack at a chosen moment, and count what is left."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from include.object_store import sha256_hex
from include.settings import settings
from local_stack.processes import WORKER
from tests.support.local_stack import RUN_TIMEOUT, RunningStack, await_that, services
from tests.support.possum_runs import Round, mlflow_runs

psutil = services.psutil  # only where the stack is installed

Task = tuple[str, str]  # DAG and task
Moment = Callable[[str], bool]  # is it time, for the task that is named as dag/run/task?
TASK = re.compile(r"airflow worker -- [0-9a-f]{8}-")  # the title of the process in which a task's code runs
LOOK = 0.05  # seconds between two looks at the running tasks
AT_WORK = "SELECT count(*) FROM dag_run JOIN dag USING (dag_id) WHERE state IN ('queued', 'running') AND NOT is_paused"
RUNNING = "SELECT dag_id, task_id, run_id, pid FROM task_instance WHERE state = 'running'"
# Neither the pause before the next try nor the number of tries is what is tested.
HURRY = "UPDATE task_instance SET end_date = end_date - interval '2 minutes', max_tries = greatest(max_tries, 8) \
WHERE state = 'up_for_retry' AND end_date > now() - interval '1 minute'"

# A task whose process was killed together with the one that watches over it has no heartbeat; nor is that time what is tested.
NO_HEARTBEAT = "UPDATE task_instance SET last_heartbeat_at = last_heartbeat_at - interval '10 minutes' \
WHERE dag_id = %s AND task_id = %s AND run_id = %s AND state = 'running'"

# Tasks are held at their end: what records it waits for an advisory lock, and with it the api-server's answer to the process that
# watches over the task. That is the asset's event, where the task has one, or else the success. Nothing else waits: others only
# read the row of a running task. A holder that dies frees the lock, and one that hangs is waited for a minute, in vain, so that
# no task is held for ever.
LOCKS = 20_230_101  # the class of these advisory locks; each task has one of its own
HOLD = f"""
SET lock_timeout = '60s';
CREATE OR REPLACE FUNCTION hold_at_end() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = '60s' AS $$
DECLARE
    written jsonb := to_jsonb(NEW);
    dag text := written ->> (TG_ARGV[0] || 'dag_id');
    run text := written ->> (TG_ARGV[0] || 'run_id');
    task text := written ->> (TG_ARGV[0] || 'task_id');
    map text := written ->> (TG_ARGV[0] || 'map_index');
BEGIN
    PERFORM set_config('application_name', 'held ' || md5(concat_ws('/', dag, run, task, map)), true);
    PERFORM pg_advisory_xact_lock_shared({LOCKS}, hashtext(dag || '/' || task));
    RETURN NEW;
EXCEPTION WHEN lock_not_available THEN
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER hold_at_end BEFORE UPDATE ON task_instance FOR EACH ROW
WHEN (OLD.state = 'running' AND NEW.state = 'success') EXECUTE FUNCTION hold_at_end('');
CREATE OR REPLACE TRIGGER hold_at_end BEFORE INSERT ON asset_event FOR EACH ROW EXECUTE FUNCTION hold_at_end('source_');
"""
HOLD_NO_MORE = "SET lock_timeout = '60s'; DROP FUNCTION hold_at_end CASCADE"  # with its triggers
LOCK = f"SELECT pg_advisory_lock({LOCKS}, hashtext(%s::text || '/' || %s::text))"
UNLOCK = f"SELECT pg_advisory_unlock({LOCKS}, hashtext(%s::text || '/' || %s::text))"
HELD = """
SELECT task.dag_id, task.task_id, task.run_id, task.pid, task.id, session.pid
FROM task_instance task JOIN pg_stat_activity session
ON session.application_name = 'held ' || md5(concat_ws('/', task.dag_id, task.run_id, task.task_id, task.map_index))
WHERE session.wait_event = 'advisory' AND task.state = 'running'
"""


def wait_until_idle(stack: RunningStack) -> None:
    """Wait for the end of all runs: one that a former test has left would be hit instead of the one that is meant."""
    await_that(lambda: stack.query(AT_WORK) == [(0,)], seconds=RUN_TIMEOUT)


class Held(NamedTuple):
    """A task that has done everything and waits for its success to be recorded."""

    task: Task
    run_id: str
    pid: int  # of its process
    instance: UUID  # of the task
    session: int  # the process in PostgreSQL of the connection that waits


class Hold:
    """Lets none of the given tasks succeed, in whichever run, until it is let go."""

    def __init__(self, stack: RunningStack, tasks: Collection[Task]) -> None:
        self._stack = stack
        self._tasks = tasks

    def __enter__(self) -> "Hold":
        self._connection = database(self._stack)
        self._cursor = self._connection.cursor()
        for task in self._tasks:
            self._cursor.execute(LOCK, task)
        self._cursor.execute(HOLD)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()  # which frees the locks, also where the server has ended the session
        with closing(database(self._stack)) as connection, connection.cursor() as cursor:
            cursor.execute(HOLD_NO_MORE)

    def held(self) -> list[Held]:
        """The tasks that wait now."""
        self._cursor.execute(HELD)
        return [Held((dag_id, task_id), *others) for dag_id, task_id, *others in self._cursor.fetchall()]

    def wait_for(self, task: Task) -> Held:
        """Wait until the task waits."""

        def find() -> Held | None:
            return next((held for held in self.held() if held.task == task), None)

        return await_that(find, seconds=RUN_TIMEOUT, every=LOOK)

    def forget(self, held: Held) -> None:
        """End the session that would record the success of a task that was killed, and let Airflow see that it is gone."""
        self._cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [held.session])
        self._cursor.execute(NO_HEARTBEAT, [*held.task, held.run_id])

    def let_go(self, task: Task) -> None:
        """From now on the task may succeed."""
        self._cursor.execute(UNLOCK, task)

    def let_all_go(self) -> None:
        """From now on all tasks may succeed."""
        self._cursor.execute("SELECT pg_advisory_unlock_all()")


def kill_task(pid: int) -> None:
    """SIGKILL for a task's process and all that descend from it; it is stopped first, so that nothing slips away."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    await_that(lambda: not is_task_runner(pid), every=LOOK)


def kill_watcher(instance: UUID) -> None:
    """SIGKILL for the process that watches over a task: it would go on to record what the task has told it last, its success."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()) == f"{WORKER}LocalExecutor: {instance}":
                process.kill()


def at_once(_: str) -> bool:
    """The moment at which a task's code has begun to run."""
    return True


@contextmanager
def killing(stack: RunningStack, tasks: Collection[Task], middles: Mapping[Task, Moment]) -> Iterator[dict[Task, str]]:
    """Kill each task once when everything has been done and nothing is recorded, in whichever run; gives the run by task.

    Those with a middle are killed in it too, at the try before. One that is over it before that is seen is killed at its end
    twice.
    """
    left, killed, ended = dict(middles), dict[Task, str](), threading.Event()

    def look(cursor: Any, hold: Hold) -> None:
        cursor.execute(HURRY)
        for held in hold.held():
            at_end = is_task_runner(held.pid)  # else it was killed in its middle, and its last words were on their way
            kill_task(held.pid)
            kill_watcher(held.instance)
            hold.forget(held)
            if at_end and not left.pop(held.task, None):
                killed[held.task] = held.run_id
                hold.let_go(held.task)
        cursor.execute(RUNNING)
        for dag_id, task_id, run_id, pid in cursor.fetchall():
            moment = left.get((dag_id, task_id))
            if moment and is_task_runner(pid) and moment(f"{dag_id}/{run_id}/{task_id}"):
                kill_task(pid)
                del left[dag_id, task_id]

    def work(hold: Hold) -> None:
        try:
            with closing(database(stack)) as connection, connection.cursor() as cursor:
                while not ended.wait(LOOK):
                    look(cursor, hold)
        finally:
            hold.let_all_go()

    with Hold(stack, tasks) as hold, ThreadPoolExecutor(1) as pool:
        worker = pool.submit(work, hold)
        try:
            yield killed
        finally:
            ended.set()
            worker.result()  # what has gone wrong there must be seen


def database(stack: RunningStack) -> Any:
    """A connection to Airflow's database that sees each change at once."""
    return psycopg.connect(stack.stack.database_url("airflow"), autocommit=True)


def is_task_runner(pid: int | None) -> bool:
    """Whether it is the process in which a task's code runs (before that it is like the one that watches over it)."""
    with contextlib.suppress(psutil.Error, TypeError):
        return bool(TASK.match(" ".join(psutil.Process(pid).cmdline())))
    return False


def runner_of(stack: RunningStack, dag_id: str, run_id: str, task_id: str) -> int | None:
    """The process in which the task's code runs now."""
    pid = stack.airflow.task(dag_id, run_id, task_id)["pid"]
    return pid if is_task_runner(pid) else None


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
    sql = f"SELECT count(*), count(DISTINCT customer_id) FROM {settings.churn.warehouse_schema}."
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
model = mlflow.pyfunc.load_model("models:/{settings.possum.registered_model_name}@champion")
rows = complete_rows(read_animals(INCLUDE / "possum.csv", "possum.csv"))[0]
scores = model.predict(rows[model.metadata.signature.inputs.input_names()])
print(json.dumps(bool(len(scores) == len(rows) and 25 < scores.min() and scores.max() < 50)))
""")
