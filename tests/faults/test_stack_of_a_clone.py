"""A new clone, in a path with blanks and other characters, is installed and started by make, whatever the shell has."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_stack import COMMAND_TIMEOUT, free_ports, short_folder

PROJECT = Path(__file__).parents[2]
NAME = "airflow tasks, my clöne; #1 'a' (b) & c=d [e]?"
ELSEWHERE = ("UV_PROJECT_ENVIRONMENT", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV", "CONDA_PREFIX")


def make(clone: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in the clone; its output holds both streams."""
    return subprocess.run(
        ["make", *arguments],
        cwd=clone,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )


@pytest.fixture(scope="module")
def clone():
    """With uv, as the first step of the install leaves it: the rest then comes from uv's cache, and needs no network."""
    folder = short_folder()
    target = folder / NAME
    ignored = shutil.ignore_patterns("__pycache__", ".git", ".venv*", ".local", ".*_cache", ".hypothesis")
    shutil.copytree(PROJECT, target, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target / ".venv"], check=True)
    shutil.copy(Path(sys.executable).with_name("uv"), target / ".venv" / "bin")
    yield target
    done = make(target, "stop")
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stdout


def test_clone_is_installed_where_it_lies_and_started(clone, tmp_path):
    elsewhere = {name: str(tmp_path / name) for name in ELSEWHERE}
    done = make(
        clone, "setup", **elsewhere, UV_CONSTRAINT="/nowhere", UV_NO_SYNC="1", PYTHONHOME="/nowhere", PYTHON="/nowhere"
    )
    assert done.returncode == 0, done.stdout
    assert list(tmp_path.iterdir()) == []
    assert (clone / ".venv" / ".installed").exists()

    again = make(clone, "setup")
    assert (again.returncode, again.stdout) == (0, "")

    names = ("AIRFLOW", "MLFLOW", "S3", "OBJECTS", "POSTGRES")
    ports = [f"{name}_PORT={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
    started = make(clone, "start", *ports, TESTS="nonsense", SERVICE="nonsense")
    assert started.returncode == 0, started.stdout
    assert "The stack is up after" in started.stdout
    for port in ports:
        assert port.partition("=")[2] in started.stdout  # in the table of what runs where
    assert "warning" not in started.stdout

    doctor = make(clone, "doctor")
    assert doctor.returncode == 0, doctor.stdout
