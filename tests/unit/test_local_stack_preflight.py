"""What is wrong before anything is started; with real sockets and folders."""

import re
import socket

import pytest

from local_stack import preflight
from local_stack.config import Ports, Stack


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def ports() -> Ports:
    chosen: set[int] = set()
    while len(chosen) < 4:
        chosen.add(free_port())
    return Ports(*chosen)


def test_free_ports_pass(ports):
    preflight.check_ports(ports)


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")],
)
def test_port_taken_on_any_address_is_found(ports, family, address):
    with socket.socket(family) as other:
        try:
            other.bind((address, ports.s3))
        except OSError as error:
            pytest.skip(f"{address} is not here: {error}")
        other.listen()
        with pytest.raises(SystemExit, match=f"port {ports.s3}, wanted for s3, is taken.*S3_PORT="):
            preflight.check_ports(ports)


def test_port_that_is_proposed_instead_is_free(ports):
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports.mlflow))
        other.listen()
        with pytest.raises(SystemExit) as caught:
            preflight.check_ports(ports)
        proposed = re.search(r"MLFLOW_PORT=(\d+)", str(caught.value))
        assert proposed
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", int(proposed[1])))


def test_port_that_was_used_a_moment_ago_is_free(ports):
    """The connection that a stopped server has left in TIME_WAIT does not matter."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", ports.airflow))
        server.listen()
        with socket.create_connection(("127.0.0.1", ports.airflow)):
            connection, _ = server.accept()
            connection.close()
    preflight.check_ports(ports)


def test_port_that_is_wanted_twice_is_told(ports):
    with pytest.raises(SystemExit, match="is wanted twice: give AIRFLOW_PORT another number"):
        preflight.check_ports(Ports(ports.s3, ports.mlflow, ports.s3, ports.postgres))


def test_state_folder_is_made_with_its_parts(tmp_path):
    stack = Stack(tmp_path / "a" / "b")
    preflight.check_folder(stack)
    assert stack.logs.is_dir()
    assert stack.s3_data.is_dir()
    assert not (stack.home / ".probe").exists()


def test_state_folder_below_a_file_ends_in_one_line(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(
        SystemExit, match=r"^error: cannot write to .*file/state .*LOCAL_STACK_DIR to a folder that is$"
    ):
        preflight.check_folder(Stack(file / "state"))


def test_too_little_space_ends_in_one_line(tmp_path, monkeypatch):
    """Asks for more than any disk has; tests/integration/stack does it on a small one."""
    monkeypatch.setattr(preflight, "NEEDED_SPACE", 1 << 60)
    with pytest.raises(SystemExit, match=r"^error: only \d+ MB free below .* LOCAL_STACK_DIR .* another disk$"):
        preflight.check_folder(Stack(tmp_path))
