"""CI, git hooks and dependency updates: they call the make targets, and what they fetch is pinned."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).parents[2]
WORKFLOW = PROJECT / ".github" / "workflows" / "ci.yml"
DEPENDABOT = PROJECT / ".github" / "dependabot.yml"
HOOKS = PROJECT / ".pre-commit-config.yaml"

pytestmark = pytest.mark.skipif(not WORKFLOW.exists(), reason="CI's files are not in this copy of the project")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return job


def test_workflow_runs_the_make_targets_and_then_looks_for_changed_files(job: dict[str, Any]) -> None:
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert [command.partition(" #")[0] for command in commands] == [
        "make test",
        "make test-faults",
        "git diff --exit-code",
    ]
    assert job["steps"][-1]["run"] == commands[-1]


def test_workflow_covers_each_supported_python_on_linux_and_one_on_macos(job: dict[str, Any]) -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    (supported,) = re.findall(r'^requires-python = "(.*)"$', text, re.M)
    pythons = {f"3.{minor}" for minor in range(20) if f"3.{minor}" in SpecifierSet(supported)}
    runs = {(run["os"].partition("-")[0], run["python"]) for run in job["strategy"]["matrix"]["include"]}
    assert {python for system, python in runs if system == "ubuntu"} == pythons
    assert {system for system, _ in runs} == {"ubuntu", "macos"}
    assert {python for _, python in runs} == pythons


def test_actions_are_pinned_to_commits_with_their_version_beside() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW.read_text())
    assert len(used) == 3
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)] == []


def test_logs_of_failed_tests_are_kept(job: dict[str, Any]) -> None:
    (kept,) = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert (kept["if"], kept["with"]["path"]) == ("failure()", "test-failures/")


def test_workflow_is_short_and_may_only_read() -> None:
    assert len(WORKFLOW.read_text().splitlines()) <= 30
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {"contents": "read"}


def test_hooks_call_make_targets() -> None:
    repositories = yaml.safe_load(HOOKS.read_text())["repos"]
    assert {each["repo"] for each in repositories} == {"local"}
    hooks = list(chain.from_iterable(each["hooks"] for each in repositories))
    assert {hook["entry"].split()[1] for hook in hooks} == {"lint", "test"}
    assert all(hook["entry"].startswith("make ") for hook in hooks)


def test_every_lock_file_is_kept_up_to_date() -> None:
    updates = yaml.safe_load(DEPENDABOT.read_text())["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"uv", "github-actions", "docker"}
    (uv,) = [each for each in updates if each["package-ecosystem"] == "uv"]
    found = {lock.parent for lock in chain(PROJECT.glob("uv.lock"), (PROJECT / "local_stack").rglob("uv.lock"))}
    assert {PROJECT / directory.strip("/") for directory in uv["directories"]} == found
