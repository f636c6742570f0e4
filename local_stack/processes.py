"""The processes of a stack. `python -m local_stack.processes` ends those that a killed one has left.

supervisord starts a killed process again, but does not know which others that one had started: they would go on holding
its port, or doing its work beside the new one. So a program that has children is started after this.
"""

import contextlib
import os
import re

import psutil

from local_stack.config import MARK, Stack

PROGRAM = "SUPERVISOR_PROCESS_NAME"  # in the environment of all that supervisord starts, and of their children
WORKER = (
    "airflow worker -- "  # the title of a process of LocalExecutor's begins with this: a watcher over tasks, or a task
)
# in the command line of a process in which a task runs; the second is that of macOS, where processes have no titles
TASK = re.compile(r"^airflow worker -- (LocalExecutor: )?[0-9a-f]{8}-| -c from airflow\.\S+ import _child_exec_main")


def marked_processes(stack: Stack) -> list[psutil.Process]:
    """The processes that carry this stack's mark in their environment, with all that descend from them."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if _variable(process, MARK) == str(stack.home) or _is_worker_of(stack, process):
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for pid, process in found.items() if pid not in mine]


def end_leftovers(stack: Stack) -> None:
    """End what an earlier process of this program has left, and wait until that is gone.

    Those that still work on a task go on, and report its outcome.
    """
    ended = []
    for process in marked_processes(stack):
        with contextlib.suppress(psutil.Error, OSError):
            if _program(process) == os.environ[PROGRAM] and not _is_at_work(process):
                process.kill()
                ended.append(process)
    psutil.wait_procs(ended, timeout=10)


def _variable(process: psutil.Process, name: str) -> str | None:
    """A variable of the process; Airflow lets nobody but root read those of a watcher over tasks and of the tasks."""
    try:
        return process.environ().get(name)
    except psutil.AccessDenied:
        return None


def _is_worker_of(stack: Stack, process: psutil.Process) -> bool:
    """Whether it is one of LocalExecutor's in the session of this stack's supervisord, of which it may be an orphan."""
    if not _command(process).startswith(WORKER) or process.uids().real != os.getuid():
        return False
    session = stack.home / "supervisord.pid"
    return session.exists() and session.read_text(encoding="utf-8").strip() == str(os.getsid(process.pid))


def _program(process: psutil.Process) -> str | None:
    return "scheduler" if _command(process).startswith(WORKER) else _variable(process, PROGRAM)


def _is_at_work(process: psutil.Process) -> bool:
    return any(TASK.search(_command(each)) for each in (process, *process.children(), *process.parents()))


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


if __name__ == "__main__":
    end_leftovers(Stack())
