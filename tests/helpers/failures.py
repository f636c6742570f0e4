"""What a failed test with a stack leaves for people: task logs, the ends of the services' logs, and a screenshot."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.local_stack import LocalStack

LINES = 300  # of each service's log
SCREENSHOT_SECONDS = 60


def keep(folder: Path, test: str, report: str, stacks: Iterable["LocalStack"], since: float) -> Path:
    """Write what happened into a folder of the test's own, and return it.

    Args:
        folder: where each failed test gets a folder.
        test: the test's node id.
        report: what pytest says of the failure.
        stacks: the stacks that run or ran during the test.
        since: seconds since the epoch; task logs that were written later are kept.

    """
    place = folder / re.sub(r"[^A-Za-z0-9_.-]+", "-", test.removeprefix("tests/")).strip("-")[:200]
    place.mkdir(parents=True, exist_ok=True)
    (place / "failure.txt").write_text(report, encoding="utf-8")
    for number, stack in enumerate(stacks, start=1):
        logs = place / (f"logs-{number}" if number > 1 else "logs")
        _keep_logs(stack.stack.logs, logs, since)
        _take_screenshot(stack, place / f"airflow-{number}.png")
    return place


def _keep_logs(source: Path, target: Path, since: float) -> None:
    for log in source.rglob("*.log"):
        copy = target / log.relative_to(source)
        if source / "tasks" in log.parents:
            if log.stat().st_mtime >= since:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, copy)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
            copy.write_text("\n".join(end), encoding="utf-8")


def _take_screenshot(stack: "LocalStack", picture: Path) -> None:
    """In a process of its own: a browser test that fails may have one open in this one."""
    from local_stack.services import is_running

    if not is_running(stack.stack):
        picture.with_suffix(".txt").write_text("no screenshot: the stack does not run\n", encoding="utf-8")
        return
    command = [sys.executable, "-m", "tests.browser.picture_of_home", str(stack.home), str(picture)]
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=SCREENSHOT_SECONDS,
            check=False,
        )
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        problem = [f"Airflow's page did not open within {SCREENSHOT_SECONDS} s"]
    if problem:
        picture.with_suffix(".txt").write_text(f"no screenshot: {problem[0]}\n", encoding="utf-8")
