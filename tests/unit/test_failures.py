"""A failed test leaves logs of its own time, the ends of the services' logs, and the reason why there is no picture."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import failures

if TYPE_CHECKING:
    from tests.support.local_stack import LocalStack


@pytest.fixture
def stack(tmp_path: Path) -> "LocalStack":
    """What a stack that has been stopped has left."""
    pytest.importorskip("supervisor", reason="needs the local stack's packages, which the Astro image lacks: make test")
    from tests.support.local_stack import LocalStack

    stack = LocalStack(tmp_path / "stack")
    logs = stack.stack.logs
    for name, content in {
        "scheduler.log": "".join(f"line {number}\n" for number in range(1000)),
        "tasks/dag_id=train/run_id=old/task_id=end/attempt=1.log": "of an earlier test",
        "tasks/dag_id=train/run_id=new/task_id=end/attempt=1.log": "of this test",
    }.items():
        path = logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    os.utime(logs / "tasks/dag_id=train/run_id=old/task_id=end/attempt=1.log", (100, 100))
    return stack


@pytest.fixture
def kept(tmp_path: Path, stack: "LocalStack") -> Path:
    test = "tests/integration/possum/test_rounds.py::test_it[a b]"
    return failures.keep(tmp_path / "failures", test, "it failed", [stack], since=1000)


def test_folder_is_named_for_the_test_and_holds_its_report(kept):
    assert kept.name == "integration-possum-test_rounds.py-test_it-a-b"
    assert (kept / "failure.txt").read_text() == "it failed"


def test_task_logs_of_the_test_and_ends_of_service_logs_are_kept(kept):
    found = {path.relative_to(kept / "logs").as_posix() for path in (kept / "logs").rglob("*.log")}
    assert found == {"scheduler.log", "tasks/dag_id=train/run_id=new/task_id=end/attempt=1.log"}
    lines = (kept / "logs" / "scheduler.log").read_text().splitlines()
    assert (len(lines), lines[-1]) == (failures.LINES, "line 999")


def test_a_picture_that_cannot_be_taken_is_explained(kept):
    assert (kept / "airflow-1.txt").read_text() == "no screenshot: the stack does not run\n"
