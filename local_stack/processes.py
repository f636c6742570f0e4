"""The processes of a stack. `python -m local_stack.processes` ends those that a killed one has left.

supervisord starts a killed process again, but does not know which others that one had started: they would go on holding
its port, or doing its work beside the new one. So a program that has children is started after this.
"""

import contextlib
import os

import psutil

from local_stack.config import MARK, PROJECT, Stack

PROGRAM = "SUPERVISOR_PROCESS_NAME"  # in the environment of all that supervisord starts, and of their children
# in the command line of a process that works on a task: "airflow tasks run ...", "airflow task runner: ..."
AT_WORK = "airflow task"


def marked_processes(stack: Stack) -> list[psutil.Process]:
    """The processes that carry this stack's mark in their environment, with all that descend from them."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(stack.home):
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for pid, process in found.items() if pid not in mine]


def end_leftovers(stack: Stack) -> None:
    """End what an earlier process of this program has left, and wait until that is gone.

    Those that still work on a task go on, and write its outcome to the database.
    """
    ended = []
    for process in marked_processes(stack):
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(PROGRAM) == os.environ[PROGRAM] and not _is_at_work(process, stack):
                process.kill()
                ended.append(process)
    psutil.wait_procs(ended, timeout=10)


def _is_at_work(process: psutil.Process, stack: Stack) -> bool:
    for each in (process, *process.parents()):
        command = " ".join(each.cmdline())
        for folder in (stack.home, PROJECT):  # which may have any name
            command = command.replace(str(folder), "")
        if AT_WORK in command:
            return True
    return False


if __name__ == "__main__":
    end_leftovers(Stack())
