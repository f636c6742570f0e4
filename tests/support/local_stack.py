"""A local stack for tests: its command line, and clients of its services."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import psycopg
import pytest
from psycopg.sql import SQL, Composed
from tenacity import Retrying, retry_if_not_result, stop_after_delay, wait_fixed

from local_stack import services
from local_stack.airflow_api import ENDED, Airflow
from local_stack.config import PROJECT, Ports, Stack
from local_stack.processes import marked_processes
from tests.helpers import turns

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mypy_boto3_s3 import S3Client

COMMAND_TIMEOUT = 300  # seconds for one command of the stack
DEMO_TIMEOUT = 900  # seconds for a first start and all pipelines
RUN_TIMEOUT = 600  # seconds for one DAG run


def await_that(condition: Callable[[], Any], seconds: float = 120, every: float = 0.3) -> Any:
    """Wait until the condition holds and return its value."""
    return Retrying(retry=retry_if_not_result(bool), stop=stop_after_delay(seconds), wait=wait_fixed(every))(condition)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on; all are held until the last is found, so that they differ."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def short_folder() -> Path:
    """A new folder whose path leaves room for a socket's name."""
    return Path(tempfile.mkdtemp(prefix="st-")).resolve()


class LocalStack:
    """A state folder with ports, and the command line on it."""

    known: ClassVar["weakref.WeakSet[LocalStack]"] = weakref.WeakSet()  # whose logs are kept when a test fails

    def __init__(self, home: Path) -> None:
        self.home = home
        LocalStack.known.add(self)
        self.ports = Ports(*free_ports(len(asdict(Ports()))))
        self.stack = Stack(home)

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which a user moves the stack."""
        ports = {f"LOCAL_STACK_{name.upper()}_PORT": str(port) for name, port in asdict(self.ports).items()}
        return {"LOCAL_STACK_DIR": str(self.home), **ports}

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m local_stack ...` as the Makefile does; its output holds both streams."""
        return subprocess.run(
            [sys.executable, "-m", "local_stack", *arguments],
            cwd=PROJECT,
            env=os.environ | {"COLUMNS": "80"} | self.variables | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",  # a test may choose another locale
            timeout=DEMO_TIMEOUT if "demo" in arguments else COMMAND_TIMEOUT,
            check=False,
        )

    def processes(self) -> list[str]:
        """The command lines of all processes that carry this stack's mark."""
        lines = []
        for process in marked_processes(self.stack):
            with suppress(services.psutil.Error):
                lines.append(f"{process.pid} {' '.join(process.cmdline())}")
        return lines

    def start(self, **variables: str) -> None:
        done = self.command("start", **variables)
        assert done.returncode == 0, done.stdout

    def stop(self) -> None:
        done = self.command("stop")
        assert done.returncode == 0, done.stdout
        assert self.processes() == []


class RunningStack(LocalStack):
    """The session's stack, with clients of its services."""

    @property
    def environment(self) -> dict[str, str]:
        """What the stack's own processes find in their environment."""
        return self.stack.environment()

    @cached_property
    def airflow(self) -> "AirflowApi":
        return AirflowApi(self.stack)

    @cached_property
    def s3(self) -> "S3Client":
        return boto3.client(
            "s3",
            endpoint_url=self.stack.s3_url,
            aws_access_key_id=self.stack.secrets.s3_access_key,
            aws_secret_access_key=self.stack.secrets.s3_secret_key,
            region_name="us-east-1",
        )

    def object(self, uri: str) -> bytes:
        """The bytes at s3://bucket/key."""
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """The bucket's objects below the prefix: ETag by key."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", [])}

    @cached_property
    def mlflow(self) -> "MlflowClient":
        from mlflow import MlflowClient

        url = f"http://127.0.0.1:{self.ports.mlflow}"
        return MlflowClient(tracking_uri=url, registry_uri=url)

    def query(self, sql: str | SQL | Composed, *values: Any, database: str = "airflow") -> list[tuple]:
        """The rows of a query, or of the last of several, in one of the databases."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.ports.postgres,
            user=database,
            password=getattr(self.stack.secrets, f"{database}_password"),
            dbname=database,
        ) as connection:
            cursor = connection.execute(sql, values)
            while cursor.nextset():
                pass
            return cursor.fetchall()

    def python(self, code: str) -> Any:
        """Run code as a task's process would, with the stack's environment; return what it prints last, as JSON."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


class AirflowApi(Airflow):
    """Airflow's REST API with what tests need beyond the demo."""

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        response = self._client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def trigger_with(self, dag_id: str, **params: Any) -> str:
        """Start a run with params, and return its id."""
        return self.post(f"/dags/{dag_id}/dagRuns", conf=params, logical_date=None)["dag_run_id"]

    def clear(self, dag_id: str, run_id: str) -> None:
        """Let all tasks of a finished run run again."""
        self.post(
            f"/dags/{dag_id}/clearTaskInstances",
            dag_run_id=run_id,
            dry_run=False,
            only_failed=False,
            reset_dag_runs=True,
        )

    def unpause_all(self, *dag_ids: str) -> None:
        for dag_id in dag_ids:
            self.unpause(dag_id)

    def wait(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Wait for the run's end and return it."""
        return Retrying(
            retry=retry_if_not_result(lambda run: run["state"] in ENDED),
            stop=stop_after_delay(RUN_TIMEOUT),
            wait=wait_fixed(0.5),
        )(self.run, dag_id, run_id)

    def wait_for_success(self, dag_id: str, run_id: str) -> None:
        """Wait for the run's end, which must be a success; otherwise show the failed tasks' logs."""
        if self.wait(dag_id, run_id)["state"] != "success":
            failed = [task for task in self.tasks(dag_id, run_id) if task["state"] in ("failed", "up_for_retry")]
            logs = "\n\n".join(f"{task['task_id']}:\n{self.log(task)[-3000:]}" for task in failed)
            pytest.fail(f"run {run_id} of {dag_id} failed\n{logs}", pytrace=False)

    def wait_for_triggered(self, dag_id: str, source_run: str, known: tuple[str, ...] = ()) -> str:
        """Wait for the run that an event of ``source_run`` has triggered, other than the known ones; return its id."""

        def find() -> str | None:
            runs = self.get(f"/dags/{dag_id}/dagRuns", order_by="-run_after")["dag_runs"]
            for run in runs:
                run_id = run["dag_run_id"]
                if run["run_type"] != "asset_triggered" or run_id in known:
                    continue
                if any(event["source_run_id"] == source_run for event in self.events_of(dag_id, run_id)):
                    return run_id
            return None

        return await_that(find, every=0.5)

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        return next(task for task in self.tasks(dag_id, run_id) if task["task_id"] == task_id)

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        return self.log(self.task(dag_id, run_id, task_id))


@contextmanager
def shared(test_run: str) -> Iterator[RunningStack]:
    """One new stack for all processes of a test run: the first one starts it, and the last one stops and removes it.

    A SIGTERM ends the tests like Ctrl-C, so that this happens then too.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    starting, using = turns.Lock(test_run, "starting"), turns.Lock(test_run, "using")
    stack = RunningStack(turns.path(test_run, "stack"))
    done, left = None, []
    try:
        starting.alone()
        using.share()
        if services.is_running(stack.stack):
            stack.ports = stack.stack.ports
        else:
            stack.start()
        starting.let_go()
        yield stack
    finally:
        starting.alone()
        if using.alone_at_once():
            done = stack.command("stop")
            left = stack.processes()
            shutil.rmtree(stack.home, ignore_errors=True)
        starting.let_go()
        signal.signal(signal.SIGTERM, previous)
    assert not done or done.returncode == 0, done and done.stdout
    assert left == []


def use(home: str) -> RunningStack:
    """A developer's own stack for repeated runs: started where it does not run, and left running."""
    stack = RunningStack(Path(home).resolve())
    if services.is_running(stack.stack):
        stack.ports = stack.stack.ports
    stack.start()
    return stack
