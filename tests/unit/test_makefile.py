"""What of make's command line and of the user's shell reaches the commands; a fake Python tells what it was given."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from local_stack import shell

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make here (as in the Astro image)")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The Makefile with programs that tell their arguments and environment, in a path with a blank."""
    folder = tmp_path / "my clone"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "local_stack").mkdir()
    shutil.copy(PROJECT / "Makefile", folder)
    programs = [folder / ".venv" / "bin" / name for name in ("python", "actionlint")]
    for program in (*programs, folder / "local_stack" / "setup.sh"):
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv\n', encoding="utf-8")
        program.chmod(0o755)
    return folder


def make(clone: Path, *arguments: str, **variables: str) -> list[str]:
    """The lines that the programs print."""
    command = ["make", *arguments]
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", [*shell.OPTIONS, "PYTHON"])
def test_option_on_the_command_line_is_handed_on_with_its_prefix(clone, name):
    told = make(clone, "status", f"{name}=$value of mine")
    assert f"LOCAL_STACK_{name}=$value of mine" in told
    assert not [line for line in told if line.startswith(f"{name}=")]


@pytest.mark.parametrize("name", [*shell.OPTIONS, "PYTHON"])
def test_variable_of_the_shell_with_an_options_name_is_no_option(clone, name):
    told = make(clone, "status", **{name: "of another program"})
    assert not [line for line in told if line.startswith("LOCAL_STACK_")]
    assert f"{name}=of another program" in told  # so that the commands can tell that it is ignored


@pytest.mark.parametrize("name", shell.OPTIONS)
def test_option_in_the_shell_has_the_prefix(clone, name):
    told = make(clone, "status", **{f"LOCAL_STACK_{name}": "of mine"})
    assert f"LOCAL_STACK_{name}=of mine" in told


def test_service_and_tests_of_the_shell_change_nothing(clone):
    assert "of another program" not in make(clone, "logs", SERVICE="of another program")
    assert "s3" in make(clone, "logs", "SERVICE=s3")
    assert "not faults\ntests\n" in "\n".join(make(clone, "test", TESTS="of-another-program"))
    assert "not faults\ntests/unit\n" in "\n".join(make(clone, "test", "TESTS=tests/unit"))


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONWARNINGS"])
def test_python_starts_without_what_the_shell_tells_pythons(clone, name):
    assert not [line for line in make(clone, "status", **{name: "/of/another"}) if line.startswith("PYTHON")]
