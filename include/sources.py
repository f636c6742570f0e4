"""Where input files come from: include/, or an object store."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from include.errors import InputError
from include.object_store import about_bucket, object_path
from include.settings import INCLUDE

# The patterns of DAG params (JSON schema's); without '//', which makes an object key that some servers never answer to
_NAME = r"(?! )(?!\.{1,2}(?:/|$))[^\/\\?#*\x00-\x1f]+(?<! )"
_BUCKET = r"s3:\/\/[A-Za-z0-9._\-]+"
CSV_SOURCE = rf"^(?:{_BUCKET}\/|(?!s3:)){_NAME}(?:\/{_NAME})*$(?!\n)"
FOLDER_SOURCE = rf"^(?:{_BUCKET}|(?!s3:){_NAME})(?:\/{_NAME})*\/?$(?!\n)"
RULE = "without '//', '.', '..', any of \\ ? # *, and blanks at the beginning or end of a name"

UNREADABLE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)  # by a retry, too
READ_AHEAD = 8 * 1024**2  # of an object, in bytes; the client's default of 50 MB would be most of a task's memory


@contextmanager
def open_source(source: str) -> Iterator[tuple[BinaryIO, str]]:
    """Open an input file, which is then read as it is used.

    Args:
        source: ``s3://bucket/key``, or a path relative to include/.

    Yields:
        The file, and its name for messages.

    Raises:
        InputError: if there is no such file, it lies outside of include/, or the address is none.

    """
    if source.startswith("s3://"):
        if not re.search(CSV_SOURCE, source):
            raise InputError(f"{source!r} is no address of an object: write s3://bucket/key, {RULE}")
        path = object_path(source)
        try:
            with about_bucket(path.bucket):
                file = path.open("rb", block_size=READ_AHEAD)
        except FileNotFoundError as error:
            raise InputError(f"{source} does not exist: put the file there, or correct the param source") from error
        name = source
    else:
        try:
            file = local_path(source).open("rb")
        except UNREADABLE as error:
            raise InputError(f"include/{source} cannot be read ({error.strerror}): put the file there") from error
        name = f"include/{source}"
    with file:
        yield file, name


def read_source(source: str) -> tuple[bytes, str]:
    """The whole of an input file, and its name for messages; see open_source."""
    with open_source(source) as (file, name):
        return file.read(), name


def local_path(source: str) -> Path:
    """The path of a file that is named relative to include/; raises InputError where it lies elsewhere."""
    if "\0" in source:
        raise InputError(f"{source!r} is no name of a file: correct the param source")
    path = (INCLUDE / source).resolve()
    if not path.is_relative_to(INCLUDE.resolve()):
        raise InputError(f"{source} lies outside of include/: put the file there, or name an object as s3://bucket/key")
    return path
