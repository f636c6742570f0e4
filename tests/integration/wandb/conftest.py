"""The fake server, and tasks that run as Airflow's do: each a fork of a process that has imported what takes long.

Each has a home folder of its own. Whatever a test does, the key must not be in any file that its tasks wrote, their logs
included (``Tasks.close``).
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.certificates import write_certificate
from tests.fakes.wandb_server import KEY, FakeWandb, files_with_key
from tests.helpers import forks

FORKS = forks.fork_server("wandb")
MODEL = "a model " * 1000
PNG = (  # one black pixel
    "89504e470d0a1a0a0000000d494844520000000100000001080000000"
    # pragma: allowlist nextline secret, because it is a picture
    "03a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)
GRACE_SECONDS = 3  # for a process that has been told to end


@dataclass
class Outcome:
    """What came of a task."""

    seconds: float  # of the whole process
    log: str
    left_behind: list[str]
    result: Any = None
    error: str | None = None
    message: str = ""
    retryable: bool = False


@dataclass
class Running:
    """A task that is under way."""

    process: BaseProcess
    home: Path
    started: float = field(default_factory=time.monotonic)

    def reached(self) -> None:
        """Wait until the task is at the moment at which it was told to stop."""
        while not (self.home / "reached").exists():
            assert self.process.is_alive(), (self.home / "log").read_text()
            assert time.monotonic() - self.started < 60
            time.sleep(0.02)

    def go_on(self) -> None:
        (self.home / "go_on").touch()

    def wait(self, timeout: float = 90) -> Outcome:
        self.process.join(timeout)
        assert not self.process.is_alive(), (self.home / "log").read_text()
        seconds = time.monotonic() - self.started
        log, result = (self.home / "log").read_text(), self.home / "result.json"
        outcome = json.loads(result.read_text()) if result.exists() else {"error": "killed"}
        print(f"task took {seconds:.1f} s\n{log}")  # noqa: T201 (pytest shows it if the test fails)
        return Outcome(seconds=seconds, log=log, left_behind=self.processes_left(), **outcome)

    def kill(self) -> None:
        """Kill the task's process."""
        self.process.kill()
        self.process.join()

    def processes_left(self, grace: float = GRACE_SECONDS) -> list[str]:
        """Processes that this task started and that live on."""
        end = time.monotonic() + grace
        while (found := list(self._processes())) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def _processes(self) -> Iterator[str]:
        for process in psutil.process_iter():
            try:
                # a fork has the environment of the process that it was forked from, and a program may have a session of its own
                own = os.getsid(process.pid) == self.process.pid or process.environ().get("HOME") == str(self.home)
                if own and process.status() != psutil.STATUS_ZOMBIE:
                    yield " ".join(process.cmdline())
            except (psutil.Error, ProcessLookupError):
                continue


class Tasks:
    """Starts tasks, which share a folder that persists and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.persistent = root / "wandb_runs"
        self._running: list[Running] = []

    def start(self, step: str, environ: dict[str, str], **given: Any) -> Running:
        """Start a step of task.py; its environment has nothing of W&B's but what is given."""
        home = self.root / f"home{len(self._running)}"
        home.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "XDG_"))}
        own = {
            "HOME": str(home),
            "TMPDIR": str(home),
            "RESULT": str(home / "result.json"),
            "WANDB_DIR": str(self.persistent),
        }
        moments = {"reached": str(home / "reached"), "go_on": str(home / "go_on")}
        given = {"run_id": "r1", "model": MODEL, "png": PNG, **moments, **given}
        process = forks.start(FORKS, "tests.integration.wandb.task", (step, given), {**kept, **own, **environ}, home)
        self._running.append(Running(process, home))
        return self._running[-1]

    def run(self, step: str, environ: dict[str, str], **given: Any) -> Outcome:
        """Run a step to its end."""
        return self.start(step, environ, **given).wait()

    def sync(self, command: str, environ: dict[str, str]) -> None:
        """Run the command that a task's log gives, as its user would."""
        home = self.root / "home_of_user"
        home.mkdir(exist_ok=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "WANDB_ERROR_REPORTING": "false"}
        done = subprocess.run(
            shlex.split(command),
            env={**environ, **own},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        """End what still runs, and look for the key."""
        for each in self._running:
            each.kill()
        assert files_with_key(self.root) == []
        assert not list(self.root.glob("home*/.netrc"))


@contextmanager
def fake_server() -> Iterator[FakeWandb]:
    """Run a fake W&B server, which must have understood all that the client asked."""
    with FakeWandb(api_key=KEY) as fake:
        yield fake
    assert fake.problems == []


def environment_for(server: FakeWandb) -> dict[str, str]:
    """The environment of a task that has a key."""
    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Tasks]:
    found = Tasks(tmp_path)
    yield found
    found.close()


@pytest.fixture(scope="module")
def module_tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    """For what several tests of a module look at."""
    found = Tasks(tmp_path_factory.mktemp("tasks"))
    yield found
    found.close()


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    with fake_server() as fake:
        yield fake


@pytest.fixture(scope="module")
def new_server() -> Callable[[], AbstractContextManager[FakeWandb]]:
    return fake_server


@pytest.fixture
def online(server: FakeWandb) -> dict[str, str]:
    return environment_for(server)


@pytest.fixture
def hasty(online: dict[str, str]) -> dict[str, str]:
    """The same with tighter bounds than a task has, for tests that wait for them."""
    bounds = {"WANDB_FINISH_TIMEOUT": "4", "WANDB_HTTP_TIMEOUT": "3", "WANDB__GRAPHQL_RETRY_MAX": "1"}
    return {**online, **bounds}


@pytest.fixture(scope="module")
def environment() -> Callable[[FakeWandb], dict[str, str]]:
    return environment_for


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a server that nobody trusts."""
    return write_certificate(tmp_path_factory.mktemp("certificate") / "server.pem")


@pytest.fixture(scope="session")
def model() -> str:
    return MODEL


@pytest.fixture(scope="session")
def png() -> bytes:
    return bytes.fromhex(PNG)
