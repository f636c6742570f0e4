"""The running stack: who listens where, what a dead service does, and what stop, start and a crash leave behind.

These tests stop and restart the session's stack; they run after those that work on it.
"""

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from local_stack.processes import marked_processes
from tests.support.local_stack import RunningStack, await_that, services

BUCKET = "kept"
LOOPBACK = {"127.0.0.1", "::1"}


def info(stack: RunningStack, service: str) -> dict[str, Any]:
    return services.supervisor(stack.stack).getProcessInfo(service)


def pids(stack: RunningStack) -> dict[str, int]:
    """The pid of each service."""
    return {each["name"]: each["pid"] for each in services.supervisor(stack.stack).getAllProcessInfo()}


def supervisord_pid(stack: RunningStack) -> int:
    return services.supervisor(stack.stack).getPID()


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; an orphan that has may stay a zombie, where PID 1 is a container's and reaps nobody."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def kept(stack: RunningStack) -> dict[str, str]:
    """Something in each store, for the tests that stop the stack."""
    with contextlib.suppress(stack.s3.exceptions.BucketAlreadyExists, stack.s3.exceptions.BucketAlreadyOwnedByYou):
        stack.s3.create_bucket(Bucket=BUCKET)
    stack.s3.put_object(Bucket=BUCKET, Key="folder/object", Body=b"content")
    experiment = stack.mlflow.create_experiment(f"kept-{os.urandom(4).hex()}")
    run = stack.mlflow.create_run(experiment)
    stack.mlflow.log_param(run.info.run_id, "kept", "yes")
    stack.airflow.unpause("feature_eng")
    dag_run = stack.airflow.trigger_with("feature_eng", source="absent.csv")  # soon over
    stack.airflow.wait("feature_eng", dag_run)
    return {"mlflow_run": run.info.run_id, "dag_run": dag_run}


def assert_kept(stack: RunningStack, kept: dict[str, str]) -> None:
    assert stack.object(f"s3://{BUCKET}/folder/object") == b"content"
    assert stack.mlflow.get_run(kept["mlflow_run"]).data.params == {"kept": "yes"}
    assert stack.airflow.run("feature_eng", kept["dag_run"])["state"] == "failed"
    assert stack.airflow.get("/dags/feature_eng")["is_paused"] is False


def test_all_services_listen_on_loopback_only(stack: RunningStack):
    listening = set()
    for process in marked_processes(stack.stack):
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker that has just ended
            connections = process.net_connections("inet")
            listening |= {each.laddr for each in connections if each.status == psutil.CONN_LISTEN}
    ports = stack.ports
    assert {ports.airflow, ports.mlflow, ports.s3, ports.objects, ports.postgres} <= {
        address.port for address in listening
    }
    assert {address.ip for address in listening} <= LOOPBACK


def test_secrets_can_be_read_by_their_user_only(stack: RunningStack):
    for name in ("secrets.json", "passwords.json"):
        assert (stack.home / name).stat().st_mode & 0o077 == 0


def test_second_start_changes_nothing(stack: RunningStack):
    before = pids(stack)
    stack.start()
    assert pids(stack) == before
    assert len(before) >= 6


def test_mlflow_runs_one_worker_and_no_job_runner(stack: RunningStack):
    server = psutil.Process(info(stack, "mlflow")["pid"])
    (worker,) = server.children(recursive=True)
    assert "uvicorn" in worker.cmdline()


def test_status_tells_what_runs_where_and_since_when(stack: RunningStack):
    done = stack.command("status")
    assert done.returncode == 0, done.stdout
    for service, port in (
        ("postgres", stack.ports.postgres),
        ("s3", stack.ports.s3),
        ("mlflow", stack.ports.mlflow),
        ("objects", stack.ports.objects),
        ("api-server", stack.ports.airflow),
        ("scheduler", ""),
        ("dag-processor", ""),
        ("triggerer", ""),
    ):
        row = next(line for line in done.stdout.splitlines() if re.match(rf"\W*{service}\b", line))
        assert "running" in row
        assert str(info(stack, service)["pid"]) in row
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row)
        assert str(port) in row


@pytest.mark.parametrize(
    "service", ["postgres", "s3", "objects", "mlflow", "scheduler", "dag-processor", "triggerer", "api-server"]
)
def test_killed_service_is_started_again_and_nothing_of_the_old_one_goes_on(stack: RunningStack, service):
    pid = info(stack, service)["pid"]
    old = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    os.kill(pid, signal.SIGKILL)
    await_that(lambda: not any(lives(process) for process in old))

    def runs_anew() -> bool:
        now = info(stack, service)  # one look: state and pid of the same moment
        return now["statename"] == "RUNNING" and now["pid"] != pid

    await_that(runs_anew)
    # Airflow may still go by the heartbeat of the one that was killed, and see a little later that the new one is not ready
    await_that(lambda: stack.command("status").returncode == 0)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@retry(retry=retry_if_exception_type(OSError), stop=stop_after_delay(10), wait=wait_fixed(0.1))
def bind_when_free(server: socket.socket, port: int) -> None:
    """Take the port of a process that was killed: the last thread of a zombie may hold it a moment longer."""
    server.bind(("127.0.0.1", port))


def test_service_that_cannot_come_back_is_shown_as_dead_until_start_brings_it_back(stack: RunningStack):
    process = psutil.Process(info(stack, "s3")["pid"])
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with stopped(supervisord_pid(stack)):
            process.kill()
            await_that(lambda: process.status() == psutil.STATUS_ZOMBIE)
            bind_when_free(thief, stack.ports.s3)
            thief.listen()
        await_that(lambda: info(stack, "s3")["statename"] == "FATAL")
        done = stack.command("status")
        assert done.returncode == 1
        assert re.search(r"s3\b.*fatal", done.stdout)
        refused = stack.command("start")
        assert refused.returncode == 1
        assert "s3" in refused.stdout
        assert "Traceback" not in refused.stdout
    stack.start()
    assert info(stack, "s3")["statename"] == "RUNNING"
    done = stack.command("status")
    assert done.returncode == 0, done.stdout


def test_stop_leaves_nothing_behind_and_start_finds_everything_again(stack: RunningStack, kept):
    stack.stop()
    status = stack.command("status")
    assert (status.returncode, status.stdout.strip()) == (1, "The stack is not running (make start).")
    stack.start()
    assert_kept(stack, kept)


def test_stop_ends_what_a_killed_supervisord_has_left(stack: RunningStack, kept):
    os.kill(supervisord_pid(stack), signal.SIGKILL)
    status = stack.command("status")
    assert status.returncode == 1
    assert "left over: make stop ends them" in status.stdout
    stack.stop()
    stack.start()
    assert_kept(stack, kept)


def test_start_after_a_killed_supervisord_needs_no_stop(stack: RunningStack, kept):
    old = marked_processes(stack.stack)
    os.kill(supervisord_pid(stack), signal.SIGKILL)
    stack.start()
    assert not any(lives(process) for process in old)
    assert_kept(stack, kept)
