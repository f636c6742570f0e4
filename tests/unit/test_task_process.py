"""Processes of tasks, started, watched and killed as the executor does it; Airflow's server only keeps what it is told."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import attrs
import psutil
import pytest
from airflow.sdk import DagRunState, TaskInstanceState
from airflow.sdk.api.datamodels._generated import BundleInfo, DagRun, DagRunType, TaskInstance, TIRunContext
from airflow.sdk.execution_time import supervisor
from pydantic import SecretStr

from include import notifications
from include.settings import PipelinesSettings, Settings
from include.task_process import TaskCoordinator, TaskProcess
from tests.fakes.http_server import Request, Response, answering


class Server:
    """Airflow's, as a task's watcher knows it."""

    def __init__(self, *, should_retry: bool) -> None:
        now = datetime.now(UTC)
        run = DagRun(
            dag_id="train",
            run_id="manual__1",
            logical_date=None,
            data_interval_start=None,
            data_interval_end=None,
            run_after=now,
            start_date=now,
            end_date=None,
            run_type=DagRunType.MANUAL,
            state=DagRunState.RUNNING,
            consumed_asset_events=[],
            partition_key=None,
        )
        self.context = TIRunContext(dag_run=run, max_tries=3, should_retry=should_retry)
        self.stored: list[str] = []
        self.task_instances = SimpleNamespace(
            start=lambda *_: self.context,
            heartbeat=lambda *_, **__: None,
            finish=lambda *, state, **_: self.stored.append(state),
        )


@pytest.fixture
def told(monkeypatch) -> Iterator[list[dict[str, Any]]]:
    """The messages that arrive where PIPELINES_NOTIFY_URL says."""
    messages: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        messages.append(request.get_json())
        return Response(status=200)

    with answering(answer) as url:
        secret = SecretStr(url.replace("http", "json", 1))
        monkeypatch.setattr(notifications, "settings", Settings(pipelines=PipelinesSettings(notify_url=secret)))
        yield messages


def run(target: Callable[[], None], *, should_retry: bool = False) -> tuple[TaskProcess, Server]:
    """Run what stands for a task in a process of its own, to its end."""
    server = Server(should_retry=should_retry)
    task = TaskInstance(
        id=uuid4(),
        dag_id="train",
        task_id="train_model",
        run_id="manual__1",
        try_number=4,
        dag_version_id=uuid4(),
    )
    process = TaskProcess.start(
        what=task,
        dag_rel_path="train.py",
        bundle_info=BundleInfo(name="dags-folder"),
        client=server,
        target=target,
    )
    process.wait()
    return process, server


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_task_that_is_not_tried_again_is_told(told):
    process, server = run(be_killed)
    assert process.final_state == TaskInstanceState.FAILED
    assert server.stored == [TaskInstanceState.FAILED]
    (message,) = told
    assert message["title"] == "Airflow: train has failed"
    assert "train.train_model has failed at try 4 of run manual__1: no reason given" in message["message"]
    assert "/dags/train/runs/manual__1/tasks/train_model" in message["message"]


def test_killed_task_that_is_tried_again_is_not_told(told):
    process, server = run(be_killed, should_retry=True)
    assert process.final_state == TaskInstanceState.UP_FOR_RETRY
    assert server.stored == []  # the scheduler stores it, by what the executor says
    assert told == []


def test_task_that_ends_by_itself_is_not_told(told):
    """It tells of itself: its process calls on_failure_callback."""
    _, server = run(lambda: None)
    assert server.stored == []
    assert told == []


def test_nobody_to_be_told_does_not_stop_the_watcher(told, monkeypatch):
    monkeypatch.setattr(notifications, "describe_failure", lambda _: 1 / 0)
    _, server = run(be_killed)
    assert server.stored == [TaskInstanceState.FAILED]


def test_what_a_killed_task_has_started_ends_with_it(tmp_path):
    pid_file = tmp_path / "pid"

    def leave_a_child() -> None:
        child = subprocess.Popen(["sleep", "600"])
        pid_file.write_text(str(child.pid), encoding="utf-8")
        be_killed()

    run(leave_a_child)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(pid_file.read_text(encoding="utf-8"))).wait(10)


def test_slot_is_free_as_soon_as_the_process_has_ended():
    """Airflow's own waits for a heartbeat's time where the sockets close a moment before the process ends."""

    def close_and_linger() -> None:
        os.closerange(0, 256)
        time.sleep(0.5)
        os._exit(0)

    began = time.monotonic()
    run(close_and_linger)
    assert time.monotonic() - began < supervisor.MIN_HEARTBEAT_INTERVAL


def test_log_does_not_go_to_the_schedulers_output(monkeypatch):
    """The executor asks for it; there it would be unmasked."""
    kept: dict[str, Any] = {}

    def start(**task: Any) -> SimpleNamespace:
        kept.update(task)
        return SimpleNamespace(wait=lambda: 0, final_state="success")

    monkeypatch.setattr(TaskProcess, "start", start)
    result = TaskCoordinator().execute_task(subprocess_logs_to_stdout=True, what="task")
    assert (result.exit_code, result.final_state) == (0, "success")
    assert kept == {"what": "task"}
    assert attrs.fields(TaskProcess).subprocess_logs_to_stdout.default is False


@pytest.mark.parametrize("killed", [False, True])
def test_worker_ends_after_its_task_where_the_scheduler_was_killed(monkeypatch, tmp_path, killed):
    """It would wait for work in a queue that nobody fills any more."""
    fork, asks_for_more = multiprocessing.get_context("fork"), tmp_path / "asks-for-more"

    def work(scheduler: int) -> None:
        def wait() -> int:
            while killed and os.getppid() == scheduler:
                time.sleep(0.01)
            return 0

        monkeypatch.setattr(TaskProcess, "start", lambda **_: SimpleNamespace(wait=wait, final_state="success"))
        TaskCoordinator().execute_task(subprocess_logs_to_stdout=True)
        asks_for_more.touch()

    def schedule(ended: int) -> None:
        os.close(ended)
        worker = fork.Process(target=work, args=[os.getpid()])
        worker.start()
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        worker.join()

    ended, held_by_both = os.pipe()
    fork.Process(target=schedule, args=[ended]).start()
    os.close(held_by_both)
    assert os.read(ended, 1) == b""  # both have ended
    os.close(ended)
    assert asks_for_more.exists() is not killed
