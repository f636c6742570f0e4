"""`make demo` from a shell full of other programs' variables, in folders whose names hold all that a name may."""

import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from local_stack.config import MARK, POSTGRES_SYSTEM_USER
from local_stack.processes import marked_processes
from tests.support.local_stack import RunningStack, services, short_folder

NAME = "airflow worker -- 01234567-, my stäck; #1 'a' \"b\" (c) $HOME & 100%s [red]"
STRAYS = {
    # each would move a connection, ask for what the stack's servers do not have, or turn them into something else
    "PGSSLMODE": "require",
    "PGSERVICE": "prod",
    "PGHOSTADDR": "127.0.0.2",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGTZ": "Mars/Olympus",
    "RCLONE_READ_ONLY": "true",
    "RCLONE_USER": "x",
    # pragma: allowlist nextline secret, because it is made up
    "RCLONE_AUTH_KEY": "other,keys",
    "DATABRICKS_HOST": "https://databricks.example.com",
    "WANDB_RUN_ID": "another",
    "WANDB_DIR": "/nowhere",
    "UV_CONSTRAINT": "/nowhere/constraints.txt",
    "UV_PYTHON": "/nowhere/python",
    "VIRTUAL_ENV": "/nowhere",
    "UVICORN_HOST": "0.0.0.0",
    "AIRFLOW_API_APPS": "execution",
    "PREDICTION_VENV_CACHE": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "MPLBACKEND": "nothing",
    "LOCAL_STACK_MARK": "/nowhere",
    "LOCAL_STACK_SOCKET": "/nowhere/socket",
    "LOCAL_STACK_POSTGRES_USER": "nobody-has-this-name",
    "LOGNAME": "root",
    "USER": "nobody-has-this-name",
    "LANGUAGE": "de",
}
FORMER = {"FILE_PATH": "/x.csv", "KEY_COLUMN": "x", "POSTGRES_PORT": "1", "EXECUTOR": "celery"}


class Listener:
    """Listens where nobody should call, and counts who does."""

    def __init__(self, address: str, port: int) -> None:
        self.calls = 0
        self._server = socket.create_server((address, port))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self._server.accept()[0].close()
                self.calls += 1

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@contextmanager
def listening(address: str, port: int = 0) -> Iterator[Listener]:
    listener = Listener(address, port)
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def latin1(folder: Path) -> dict[str, str]:
    """A locale with another encoding than UTF-8; the plain C where none can be made."""
    command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / "de_DE.ISO-8859-1")]
    if shutil.which("localedef") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        return {"LOCPATH": str(folder), "LC_ALL": "de_DE.ISO-8859-1"}
    return {"LC_ALL": "C"}


class StrangeStack(RunningStack):
    """A stack, the shell that it was started from, what that start said, and who was called beside it."""

    variables_of_the_shell: dict[str, str]
    said: str
    proxy: Listener
    elsewhere: Listener | None = None


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrangeStack]:
    folder = short_folder()
    stack = StrangeStack(folder / NAME)
    with ExitStack() as open_ones:
        stack.proxy = open_ones.enter_context(listening("127.0.0.1"))
        with suppress(OSError):  # not on macOS
            stack.elsewhere = open_ones.enter_context(listening("127.0.0.2", stack.ports.postgres))
        url = f"http://127.0.0.1:{stack.proxy.port}"
        proxies = {name: url for each in ("http_proxy", "https_proxy", "all_proxy") for name in (each, each.upper())}
        stack.variables_of_the_shell = {
            **STRAYS,
            **FORMER,
            **proxies,
            **latin1(tmp_path_factory.mktemp("locale")),
            "NO_PROXY": "corp.example.com",
            "no_proxy": "",
            "MLFLOW_S3_IGNORE_TLS": "false",
        }
        try:
            with umask(0o000):
                done = stack.command("demo", **stack.variables_of_the_shell)
            assert done.returncode == 0, done.stdout
            stack.said = done.stdout
            yield stack
        finally:
            stack.stop()
            shutil.rmtree(folder)


def environments(stack: StrangeStack) -> Iterator[dict[str, str]]:
    """Those of the stack's processes; PostgreSQL's children write their title over theirs."""
    for process in marked_processes(stack.stack):
        with suppress(psutil.Error):
            if MARK in (environment := process.environ()):
                yield environment


def test_no_process_has_a_variable_of_another_program(strange):
    own = strange.environment
    found = list(environments(strange))
    assert len(found) > 10
    for environment in found:
        assert not {name for name in (*STRAYS, *FORMER) if environment.get(name) not in (None, "", own.get(name))}


def test_every_process_has_what_a_user_needs(strange):
    for environment in environments(strange):
        assert environment["NO_PROXY"] == environment["no_proxy"] == "corp.example.com,127.0.0.1,localhost,::1"
        assert environment["HTTPS_PROXY"] == f"http://127.0.0.1:{strange.proxy.port}"
        assert environment["MLFLOW_S3_IGNORE_TLS"] == "false"
        assert environment["LC_ALL"].endswith("UTF-8")


def test_nobody_else_was_called(strange):
    assert strange.proxy.calls == 0
    assert strange.elsewhere is None or strange.elsewhere.calls == 0


def test_ignored_variables_are_told_once(strange):
    for name in FORMER:
        assert strange.said.count(f"{name} is now ") == 1
    assert "UserWarning" not in strange.said


def test_results_are_where_they_belong(strange):
    assert f"{strange.stack.objects_url}/data/predictions/" in strange.said
    # the terminal's encoding is not this process's, so its letters beyond ASCII look different here
    assert re.search(re.escape(f"{strange.home}/wandb/").replace("ä", "."), strange.said), strange.said
    assert list((strange.home / "prediction-venvs").glob("*/bin/python"))
    assert list((strange.home / "logs" / "tasks").glob("dag_id=predict/*/task_id=run_prediction/attempt=1.log"))


def test_nothing_that_is_kept_can_be_written_by_others(strange):
    """Although the umask of the shell allowed it."""
    assert stat.S_IMODE((strange.home / "secrets.json").stat().st_mode) == 0o600
    kept = [strange.home, *strange.home.glob("*"), *(strange.home / "logs").glob("*")]
    assert not [path for path in kept if path.lstat().st_mode & stat.S_IWOTH and not path.is_socket()]


def test_postgres_runs_as_who_started_it(strange):
    server = psutil.Process(services.supervisor(strange.stack).getProcessInfo("postgres")["pid"])
    mine = pwd.getpwuid(os.geteuid()).pw_name
    assert server.username() == (POSTGRES_SYSTEM_USER if mine == "root" else mine)


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_command_from_that_shell_finds_all_well(strange, command):
    done = strange.command(command, **strange.variables_of_the_shell)
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout


def test_command_from_another_shell_finds_the_same_stack(strange, tmp_path):
    done = strange.command("status", TMPDIR=str(tmp_path), LC_ALL="C")
    assert done.returncode == 0, done.stdout


def test_killed_service_with_children_comes_back_and_leaves_none(strange):
    """What was left is found by the stack's folder, and told from tasks by its command line, in which the folder is too."""
    old = psutil.Process(services.supervisor(strange.stack).getProcessInfo("scheduler")["pid"])
    children = old.children(recursive=True)
    assert children
    old.kill()
    services.wait_until_healthy(strange.stack)
    psutil.wait_procs(children, timeout=30)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
