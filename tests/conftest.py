"""What all tests share: an environment of their own, and one real stack for those that need services."""

import importlib
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local_stack import shell
from tests.helpers import turns

if TYPE_CHECKING:
    from tests.support.local_stack import RunningStack


def _isolate() -> str:
    """Take this shell's Airflow, MLflow, AWS, W&B and project settings out of the environment; return an AIRFLOW_HOME.

    At import, as Airflow reads its configuration when it is imported first. Nobody's connections or keys are used by a
    test, and what is tested are the project's own defaults.
    """
    for name in list(os.environ):
        if name.startswith(OF_THE_SHELL) or name in shell.OPTIONS:
            del os.environ[name]
    from include import settings

    for name in (*settings.Settings.variables(), *settings.FORMER_NAMES):
        os.environ.pop(name, None)
    importlib.reload(settings)
    home = tempfile.mkdtemp(prefix="airflow-home-")
    os.environ |= {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "DO_NOT_TRACK": "1",
    }
    return home


OF_THE_SHELL = (
    *("AIRFLOW", "MLFLOW_", "AWS_", "WANDB_", "LOCAL_STACK_", "PG"),
    # settings, which might be refused before their names are known
    *("POSSUM_", "CHURN_", "PIPELINES_", "DATA_BUCKET_NAME", "XCOM_BUCKET"),
)
KEPT_STACK = os.environ.get("TEST_STACK_DIR")  # a developer's: this stack is used, and stays up for the next time
AIRFLOW_HOME = _isolate()
TEST_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex  # the same in all processes of one run
FAILURES = Path(__file__).parents[1] / "test-failures"
WITH_STACK = {"integration", "faults", "browser"}  # folders of tests


# Tests with the session's stack. Those of the two pipelines run at the same time, in a process each, as they look at what their
# first runs have left; those that stop services, or look at all that there is, run after both and alone.
GROUPS = ("tests/integration/churn/", "tests/integration/possum")  # the one that takes longer first
ALONE = ("tests/integration", "tests/browser", "tests/faults")  # in this order
# Tests that the session's stack is not for: they need no stack, or have one of their own.
WITHOUT_STACK = (
    "tests/unit",
    "tests/dags",
    "tests/integration/churn_sql",
    "tests/integration/servers",
    "tests/integration/wandb",
    "tests/integration/stack/test_stack_errors.py",
    "tests/faults/test_celery_workers.py",
    "tests/faults/test_collection_in_image.py",
    "tests/faults/test_stack_demo.py",
    "tests/faults/test_stack_of_",
)


def _group(nodeid: str) -> str | None:
    """The group of a test with the session's stack; None where it has none."""
    if nodeid.startswith(WITHOUT_STACK):
        return None
    return next((folder for folder in GROUPS if nodeid.startswith(folder)), "alone")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the fault tier, and put those with the session's stack first where there are several processes.

    They take longest. In a single process what is quick comes first.
    """
    several = config.getoption("numprocesses", default=None) or hasattr(config, "workerinput")
    order = (*GROUPS, *ALONE)

    def rank(item: pytest.Item) -> int:
        if _group(item.nodeid) is None:
            return len(order) if several else -1
        return next(number for number, folder in enumerate(order) if item.nodeid.startswith(folder))

    for item in items:
        if item.nodeid.startswith("tests/faults"):
            item.add_marker(pytest.mark.faults)
        if _group(item.nodeid) is None and not item.nodeid.startswith("tests/unit"):  # there it may be another stack
            assert "stack" not in item.fixturenames, f"WITHOUT_STACK must not list {item.nodeid}"  # type: ignore[attr-defined]
    items.sort(key=rank)  # stable: within a rank the order stays


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """A process for each group with the session's stack; the first one goes on with those that run alone; others go by file."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByStack(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = _group(nodeid)
            if group is None:
                return nodeid.partition("::")[0]
            return group if group in GROUPS else GROUPS[0]

    return ByStack(config, log)


TURN = turns.Lock(TEST_RUN, "turn")


def _take_turns(item: pytest.Item) -> None:
    """Wait for the turn of the test's group, and let others have theirs while tests without the stack run."""
    group = _group(item.nodeid)
    if group in GROUPS:
        TURN.share()
    elif group:
        TURN.alone()
    else:
        TURN.let_go()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
    turns.remove(TEST_RUN)
    if not _is_worker(config) and FAILURES.exists():
        print(f"Logs and screenshots of the failed tests: {FAILURES}")  # noqa: T201 (the last line, after pytest's own)


# What a failed test with a stack leaves for people (tests/helpers/failures.py)

BEGAN: dict[Path, float] = {}  # when a module's first test began, whose fixtures may run DAGs for all of them


def pytest_sessionstart(session: pytest.Session) -> None:
    if not _is_worker(session.config):
        shutil.rmtree(FAILURES, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    BEGAN.setdefault(item.path, time.time() - 1)  # file systems may keep whole seconds
    _take_turns(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    support = sys.modules.get("tests.support.local_stack")  # imported where a test has a stack
    if report.failed and support and WITH_STACK & set(item.path.parts):
        from tests.helpers import failures

        stacks = [stack for stack in support.LocalStack.known if stack.stack.logs.exists()]
        failures.keep(FAILURES, item.nodeid, report.longreprtext, stacks, BEGAN[item.path])
    return report  # type: ignore[return-value]


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of pytest-xdist's processes, and not the one that started them."""
    return hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def stack() -> Iterator["RunningStack"]:
    """A whole local stack on free ports, started for this session and ended with it, whatever happens."""
    from tests.support import local_stack

    if KEPT_STACK:
        yield local_stack.use(KEPT_STACK)
    else:
        with local_stack.shared(TEST_RUN) as running:
            yield running


@pytest.fixture
def stack_connections(stack: "RunningStack", monkeypatch: pytest.MonkeyPatch) -> "RunningStack":
    """The stack's Airflow connections for code that runs in this process."""
    for name, value in stack.environment.items():
        if name.startswith("AIRFLOW_CONN_"):
            monkeypatch.setenv(name, value)
    return stack
