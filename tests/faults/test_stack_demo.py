"""`make demo` on a stack that was never started: with no network but loopback, and with a pipeline that fails."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_stack import DEMO_TIMEOUT, LocalStack
from tests.support.other_stack import stack_of_its_own

PROJECT = Path(__file__).parents[2]

# brings lo up, proves that there is nothing else, and becomes the command
WRAPPER = """
import os, socket, sys
from local_stack.worker import loopback_up
loopback_up()
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def demo_stack() -> Iterator[LocalStack]:
    """A state folder and ports in which nothing was ever started."""
    yield from stack_of_its_own()


@pytest.fixture(scope="module")
def isolated() -> list[str]:
    """The command that runs Python in a network namespace of its own, as the same user."""
    unshare = ["unshare", "--net"]
    if os.geteuid() != 0:  # the right to configure lo, without becoming root
        unshare += ["--map-current-user", "--keep-caps"]
    command = [*unshare, sys.executable, "-c", WRAPPER]
    try:
        subprocess.run([*command, "-c", "pass"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    return command


def test_namespace_reaches_loopback_only(isolated):
    """Otherwise the next test would prove nothing."""
    code = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
for address in ("192.0.2.1", "8.8.8.8"):
    try:
        socket.create_connection((address, 53), timeout=3)
    except OSError as error:
        assert error.errno == 101, error
    else:
        raise SystemExit("reached " + address)
"""
    subprocess.run([*isolated, "-c", code], check=True)


def test_demo_runs_all_pipelines_and_shows_where_the_results_are(demo_stack: LocalStack, isolated):
    demo = subprocess.Popen(
        [*isolated, "-m", "local_stack", "demo"],
        cwd=PROJECT,
        env=os.environ | demo_stack.variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = demo.communicate(timeout=DEMO_TIMEOUT)
    finally:
        if demo.poll() is None:
            demo.send_signal(signal.SIGKILL)
    assert demo.returncode == 0, output
    for dag_id in ("feature_eng", "train", "predict"):
        row = next(line for line in output.splitlines() if line.startswith(f"│ {dag_id} "))
        assert "success" in row
    ports = demo_stack.ports
    airflow, mlflow, objects = (f"http://localhost:{port}" for port in (ports.airflow, ports.mlflow, ports.objects))
    assert f"Airflow: {airflow}   MLflow: {mlflow}   objects: {objects}" in output
    assert f"Login for Airflow and objects: admin, password {demo_stack.stack.secrets.login_password}" in output
    assert f"{mlflow}/#/experiments/" in output
    assert f"{mlflow}/#/models/Reg_RidgeCV_possums/versions/1" in output
    assert "include/plots/possum_tails.png" in output
    assert f"{objects}/data/predictions/" in output
    assert re.search(rf"plots +{objects}/churnmodels/\S+/plots/\n", output)
    assert re.search(rf"drift report +{objects}/churnmodels/\S+/report\.html\n", output)
    assert "holdout" in output
    # the virtual environment of run_prediction came from uv's cache: none was there, and nothing could be downloaded
    (log,) = (demo_stack.home / "logs" / "tasks").glob("dag_id=predict/*/task_id=run_prediction/attempt=1.log")
    assert "Building the virtual environment" in log.read_text()
    assert "downloading them" not in log.read_text()
    assert len(demo_stack.processes()) > 10  # the stack stays up


def test_demo_of_a_failing_pipeline_names_the_task_shows_its_log_and_fails(demo_stack: LocalStack):
    demo_stack.stop()  # settings are read when the stack starts
    done = demo_stack.command("demo", POSSUM_FILE_PATH="absent.csv")
    assert done.returncode == 1
    assert "failed task extract_data, the end of its log:" in done.stdout
    assert "include/absent.csv cannot be read" in done.stdout
    assert "The stack stays up" in done.stdout
    assert len(demo_stack.processes()) > 10
