"""A Celery worker that shares nothing with the others: `python -m local_stack.worker worker1`.

It runs from a copy of the project, with folders of its own for everything that Airflow, uv's environments and W&B write,
as a worker on another machine would. Where Linux lets it, it has a network, a process tree and a host name of its own too,
and sees neither the project's code nor the rest of the stack's folder. Logs go to the S3 server, where the api-server finds
them.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

from local_stack.config import PROJECT, Stack, airflow_path
from local_stack.gateway import listen, service_ports

COPIED = ("dags", "include", "plugins", "local_stack")
HIDDEN = ("dags", "include", "plugins")
# --kill-child: when this process is killed, so is everything in the namespaces, as if the machine had failed
NAMESPACES = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
ISOLATED = "isolated"
PID_FILE = "worker.pid"
SET_FLAGS, UP = 0x8914, 0x1  # of a network device: SIOCSIFFLAGS and IFF_UP of Linux


def namespaces() -> tuple[str, ...] | None:
    """The command that runs another one in namespaces of its own; None where that is not to be had."""
    for command in (NAMESPACES, (*NAMESPACES, "--map-root-user")):  # the second one for who is not root
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            return None
    return None


def worker_environment(home: Path) -> dict[str, str]:
    """The stack's environment with every folder below ``home``."""
    project = home / "project"
    airflow = {
        "AIRFLOW_HOME": home / "airflow",
        "AIRFLOW__CORE__DAGS_FOLDER": project / "dags",
        "AIRFLOW__CORE__PLUGINS_FOLDER": project / "plugins",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": home / "logs",
    }
    others = {
        "HOME": home,
        "TMPDIR": home / "tmp",
        "PREDICTION_VENV_CACHE": home / "prediction-venvs",
        "WANDB_DIR": home / "wandb",
    }
    for folder in (*airflow.values(), *others.values()):
        folder.mkdir(parents=True, exist_ok=True)
    # packages that are installed already stay where they were downloaded to: a cache, not something tasks share
    cache = os.environ.get("UV_CACHE_DIR") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    )
    paths = {name: airflow_path(folder, home) for name, folder in airflow.items()}
    paths |= {name: str(folder) for name, folder in others.items()}
    return {**os.environ, **paths, "PYTHONPATH": str(project), "UV_CACHE_DIR": cache}


def copy_project(home: Path) -> None:
    """The files that the image holds elsewhere."""
    shutil.rmtree(home / "project", ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        shutil.copytree(PROJECT / name, home / "project" / name, ignore=ignored)
    for name in ("uv.lock", "requirements.txt"):
        shutil.copy(PROJECT / name, home / "project")


def celery_command(name: str, home: Path) -> list[str]:
    """Airflow's worker, for two tasks at a time."""
    command = [sys.executable, "-m", "local_stack.preloaded", "celery", "worker", "--concurrency", "2"]
    return [*command, "--celery-hostname", f"{name}@%h", "--skip-serve-logs", "--pid", str(home / PID_FILE)]


def hide_the_rest(stack: Stack, home: Path) -> None:
    """Leave of the stack's folder nothing but this worker's home, and nothing of the project's own code."""
    aside = "/mnt"  # exists everywhere; what this does to it is seen in here only
    _mount("--bind", str(home), aside)
    for hidden in (stack.home, *(PROJECT / name for name in HIDDEN)):
        _mount("-t", "tmpfs", "tmpfs", str(hidden))
    home.mkdir(parents=True)
    _mount("--bind", aside, str(home))
    subprocess.run(["umount", aside], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def loopback_up() -> None:
    """Start the one network device that there is."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh22x", b"lo", UP))


async def work(name: str, home: Path, ports: tuple[int, ...]) -> int:
    """Run the worker in the namespaces, with the services' ports open."""
    await listen(home, ports)
    # host names that nobody can look up: the time that takes is spared
    environment = worker_environment(home) | {"AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname"}
    worker = await asyncio.create_subprocess_exec(*celery_command(name, home), env=environment)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.terminate)
    return await worker.wait()


def main() -> None:
    """Copy the project and become the worker."""
    name, stack = sys.argv[1], Stack()
    home, ports = stack.worker_home(name), service_ports(stack)
    if sys.argv[2:] == [ISOLATED]:
        socket.sethostname(name)
        loopback_up()
        hide_the_rest(stack, home)
        sys.exit(asyncio.run(work(name, home, ports)))
    copy_project(home)
    (home / PID_FILE).unlink(missing_ok=True)  # of one that was killed; another process may have its number by now
    if command := namespaces():
        os.execvp(command[0], [*command, sys.executable, "-m", "local_stack.worker", name, ISOLATED])  # noqa: S606
    os.chdir(home)
    os.execve(sys.executable, celery_command(name, home), worker_environment(home))  # noqa: S606


if __name__ == "__main__":
    main()
