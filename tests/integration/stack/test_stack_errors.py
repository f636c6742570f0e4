"""What can be wrong on a newcomer's machine ends in one line that says what to do."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.local_stack import LocalStack

pytestmark = pytest.mark.faults

PROJECT = Path(__file__).parents[3]
NOWHERE = "http://127.0.0.1:1"  # nothing listens there


def one_error_line(output: str) -> str:
    """The one line of the output, which is an error and not a traceback."""
    lines = output.strip().splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("service", ["airflow", "mlflow", "s3", "objects", "postgres"])
def test_taken_port_is_named_with_the_variable_that_moves_it(other_stack: LocalStack, service):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        variable = f"{service.upper()}_PORT"
        done = other_stack.command("start", **{f"LOCAL_STACK_{variable}": str(port)})
    line = one_error_line(done.stdout)
    assert done.returncode == 1
    assert f"port {port}, wanted for {service}, is taken" in line
    assert f"{variable}=" in line
    assert other_stack.processes() == []


def test_port_that_is_no_number_is_named(other_stack: LocalStack):
    done = other_stack.command("start", LOCAL_STACK_S3_PORT="ninethousand")
    assert done.returncode == 1
    assert "LOCAL_STACK_S3_PORT=ninethousand is no port" in one_error_line(done.stdout)


def test_state_folder_that_cannot_be_made_is_named(other_stack: LocalStack, tmp_path):
    file = tmp_path / "file"
    file.touch()  # root may write to any folder, but not below a file
    done = other_stack.command("start", LOCAL_STACK_DIR=str(file / "state"))
    line = one_error_line(done.stdout)
    assert done.returncode == 1
    assert f"cannot write to {file / 'state'}" in line
    assert "LOCAL_STACK_DIR" in line


@pytest.mark.parametrize("path", ["a\nb", "a\tb", "a:b", b"a\xffb"], ids=["line break", "tab", "colon", "not UTF-8"])
def test_state_folder_with_a_character_that_cannot_be_is_refused_with_that_character(other_stack: LocalStack, path):
    folder = other_stack.home / os.fsdecode(path)
    done = other_stack.command("start", LOCAL_STACK_DIR=str(folder))
    line = one_error_line(done.stdout)
    assert done.returncode == 1
    assert "LOCAL_STACK_DIR" in line
    assert ("is not UTF-8" if isinstance(path, bytes) else f"may not hold {path[1]!r}") in line
    assert not folder.exists()


@pytest.mark.parametrize("command", ["start", "stop", "status", "logs", "demo", "doctor", "open", "clean", "run"])
def test_setting_that_is_refused_ends_every_command_in_one_line(other_stack: LocalStack, command):
    module = ["local_stack.bench"] if command == "run" else []
    done = other_stack.command(command, *module, XCOM_BUCKET="Capitals")
    assert done.returncode == 1
    assert "XCOM_BUCKET='Capitals' cannot be used" in one_error_line(done.stdout)


def test_variables_with_former_names_are_told_once_with_their_new_ones(other_stack: LocalStack):
    done = other_stack.command("status", FILE_PATH="/x.csv", KEY_COLUMN="id", S3_PORT="1", EXECUTOR="celery")
    *warned, _ = done.stdout.splitlines()
    assert warned == [
        "warning: These environment variables are ignored: FILE_PATH is now POSSUM_FILE_PATH, "
        "KEY_COLUMN is now POSSUM_KEY_COLUMN",
        "warning: These environment variables are ignored: S3_PORT is now LOCAL_STACK_S3_PORT, "
        "EXECUTOR is now LOCAL_STACK_EXECUTOR",
    ]


def test_terminal_that_knows_fewer_characters_is_no_error(other_stack: LocalStack):
    folder = other_stack.home / "größer"
    folder.mkdir()
    (folder / "kept").touch()
    done = other_stack.command("clean", LOCAL_STACK_DIR=str(folder), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 1
    assert "nothing was removed" in one_error_line(done.stdout)


def test_server_that_does_not_take_connections_is_told_with_the_end_of_its_log(other_stack: LocalStack):
    """PostgreSQL that finds a folder of another version."""
    other_stack.stack.postgres_data.mkdir()
    (other_stack.stack.postgres_data / "PG_VERSION").write_text("9\n", encoding="utf-8")
    _ = other_stack.stack.secrets
    done = other_stack.command("start")
    first, *rest = done.stdout.splitlines()
    assert done.returncode == 1
    assert first.startswith("error: postgres does not accept connections (")
    assert "Traceback" not in done.stdout
    assert any(str(other_stack.stack.postgres_data) in line for line in rest)


def test_folder_with_other_files_is_neither_taken_nor_removed(other_stack: LocalStack):
    precious = other_stack.home / "thesis.tex"
    precious.touch()
    started = other_stack.command("start")
    assert started.returncode == 1
    assert f"{other_stack.home} holds other files" in one_error_line(started.stdout)
    cleaned = other_stack.command("clean")
    assert cleaned.returncode == 1
    assert "nothing was removed" in one_error_line(cleaned.stdout)
    assert list(other_stack.home.iterdir()) == [precious]


def test_folder_of_a_start_that_failed_is_taken_again_and_removed_by_clean(other_stack: LocalStack):
    with socket.socket() as other:
        other.bind(("127.0.0.1", other_stack.ports.s3))
        other.listen()
        for _ in range(2):
            assert "is taken by another program" in one_error_line(other_stack.command("start").stdout)
    assert any(other_stack.home.iterdir())
    cleaned = other_stack.command("clean")
    assert (cleaned.returncode, cleaned.stdout) == (0, "")
    assert not other_stack.home.exists()


def test_full_disk_is_told_with_the_space_that_is_needed(other_stack: LocalStack):
    """On a file system of 8 MB, in a mount namespace of its own."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    script = 'mount -t tmpfs -o size=8m tmpfs "$LOCAL_STACK_DIR" && exec "$0" -m local_stack start'
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run(
        [*unshare, "sh", "-c", script, sys.executable],
        cwd=PROJECT,
        env=os.environ | other_stack.variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    line = one_error_line(done.stderr)
    assert done.returncode == 1
    assert "8 MB free" in line
    assert "1024 MB are needed" in line


def test_status_of_a_stack_that_does_not_run_says_how_to_start_it(other_stack: LocalStack):
    done = other_stack.command("status")
    assert done.returncode == 1
    assert done.stdout.strip() == "The stack is not running (make start)."


def test_logs_of_a_stack_that_was_never_started_say_so(other_stack: LocalStack):
    done = other_stack.command("logs")
    assert done.returncode == 1
    assert "make start" in one_error_line(done.stdout)


def test_stop_without_a_stack_is_no_error(other_stack: LocalStack):
    done = other_stack.command("stop")
    assert (done.returncode, done.stdout) == (0, "")


# installing


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project without what was installed."""
    target = tmp_path / "clone"
    target.mkdir()
    for name in ("Makefile", "pyproject.toml", "uv.lock", "requirements.txt"):
        shutil.copy(PROJECT / name, target)
    for name in ("local_stack", "docker", "include"):
        shutil.copytree(PROJECT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.fixture
def no_network(tmp_path: Path) -> dict[str, str]:
    """An environment in which every download fails, with empty caches and no wheels beside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    proxies = dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), NOWHERE
    )
    return (
        kept
        | proxies
        | {
            "HOME": str(tmp_path),
            "NO_PROXY": "",
            "no_proxy": "",
            "PIP_INDEX_URL": f"{NOWHERE}/",
            "PIP_RETRIES": "0",
            "PIP_CONFIG_FILE": os.devnull,
            "UV_DEFAULT_INDEX": f"{NOWHERE}/",
            "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
            "UV_HTTP_RETRIES": "0",
        }
    )


def setup(clone: Path, environment: dict[str, str], **variables: str) -> subprocess.CompletedProcess[str]:
    """`make setup` in the clone."""
    return subprocess.run(
        ["make", "setup"],
        cwd=clone,
        env=environment | {"LOCAL_STACK_PYTHON": sys._base_executable} | variables,  # type: ignore[attr-defined]
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_help_lists_the_vocabulary(tmp_path):
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert {"setup", "demo", "start", "stop", "status", "logs", "test", "test-faults", "lint", "clean"} <= listed
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())  # each with what it does


def test_missing_python_is_told_with_what_to_install(clone, no_network):
    done = setup(clone, no_network, LOCAL_STACK_PYTHON="python-that-is-not-there")
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert done.returncode != 0
    assert "no Python 3.11, 3.12 or 3.13 found as python-that-is-not-there" in error
    assert "apt install" in error
    assert "brew install" in error


def test_python_of_another_version_is_not_taken(clone, no_network, tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")  # as an old Python answers the question for its version
    old.chmod(0o755)
    done = setup(clone, no_network, LOCAL_STACK_PYTHON=str(old))
    assert done.returncode != 0
    assert f"error: no Python 3.11, 3.12 or 3.13 found as {old}" in done.stderr
    assert not (clone / ".venv").exists()


def test_first_install_without_network_says_that_it_needs_one(clone, no_network):
    done = setup(clone, no_network)
    assert done.returncode != 0
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "a download failed" in error
    assert "HTTPS_PROXY" in error
    assert "UV_DEFAULT_INDEX" in error


def test_network_that_goes_away_after_uv_is_installed_is_told_too(clone, no_network):
    """And the half-made environment is none: the next setup installs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    shutil.copy(Path(sys.executable).with_name("uv"), clone / ".venv" / "bin")
    for _ in range(2):
        done = setup(clone, no_network)
        assert done.returncode != 0
        *_, error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]  # uv has its own before
        assert "a download failed" in error


def test_install_that_went_elsewhere_is_not_taken_for_one(clone, no_network):
    """With a uv that does nothing, as one that has been redirected does nothing here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    uv = clone / ".venv" / "bin" / "uv"
    uv.write_text("#!/bin/sh\n", encoding="utf-8")
    uv.chmod(0o755)
    for _ in range(2):
        done = setup(clone, no_network)
        assert done.returncode != 0
        assert "error: installation failed" in done.stderr


@pytest.mark.parametrize("character", [":", "%", '"', "$", "`", "\n"])
def test_path_of_the_clone_with_a_character_that_cannot_be_is_refused_with_that_character(clone, no_network, character):
    moved = clone.rename(clone.with_name(f"my{character}clone"))
    done = setup(moved, no_network)
    assert done.returncode != 0
    assert "error: the path of this folder" in done.stderr
    assert f"may not hold the character '{character}'" in done.stderr
    assert not (moved / ".venv").exists()


def test_python_of_the_shell_is_told_to_be_ignored(clone, no_network):
    done = setup(clone, no_network, PYTHON="/usr/bin/python2")
    assert "warning: the environment variable PYTHON is ignored: it is now LOCAL_STACK_PYTHON\n" in done.stderr
    assert "found as /usr/bin/python2" not in done.stderr


def test_full_disk_is_told_before_anything_is_installed(clone, no_network):
    """With a df that tells of a full disk in front of the real one."""
    with tempfile.TemporaryDirectory() as folder:
        fake = Path(folder, "df")
        fake.write_text(
            "#!/bin/sh\nprintf 'Filesystem 1024-blocks Used Available\\ndisk 9000000 8900000 100000 99%% /\\n'\n",
            encoding="utf-8",
        )
        fake.chmod(0o755)
        done = setup(clone, no_network, PATH=f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode != 0
    assert "error: only 97 MB free" in done.stderr
    assert not (clone / ".venv").exists()
