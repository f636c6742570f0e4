"""What the processes of one test run agree on, by locks of files that end with the process that has them."""

import fcntl
import os
import tempfile
from functools import cached_property
from pathlib import Path


class Lock:
    """A lock between the processes of a test run: shared, alone, or let go."""

    def __init__(self, test_run: str, name: str) -> None:
        self._path = path(test_run, name)
        self._mode = fcntl.LOCK_UN

    @cached_property
    def _file(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)

    def share(self) -> None:
        """Wait until nobody has it alone."""
        self._change(fcntl.LOCK_SH)

    def alone(self) -> None:
        """Wait until nobody has it."""
        self._change(fcntl.LOCK_EX)

    def alone_at_once(self) -> bool:
        """Take it alone if nobody else has it; otherwise let it go."""
        self.let_go()
        try:
            self._change(fcntl.LOCK_EX, fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def let_go(self) -> None:
        self._change(fcntl.LOCK_UN)

    def _change(self, mode: int, how: int = 0) -> None:
        if mode != self._mode:
            fcntl.flock(self._file, mode | how)
            self._mode = mode


def path(test_run: str, name: str) -> Path:
    """Where the processes of a test run meet; short, as sockets lie below it."""
    return Path(tempfile.gettempdir()).resolve() / f"st-{test_run[:8]}-{name}"


def remove(test_run: str) -> None:
    """Remove the files of these locks, at the end of a test run."""
    for file in path(test_run, "").parent.glob(f"{path(test_run, '').name}*"):
        if file.is_file():
            file.unlink()
