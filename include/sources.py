"""Where input files come from: include/, or an object store."""

from pathlib import Path

from include.errors import InputError
from include.object_store import read_object
from include.settings import INCLUDE

# A DAG param that names an input file: an object, or a path below include/ (JSON schema's pattern)
CSV_SOURCE = r"^(s3://[^/]+/.+|(?!s3:|/).+)$"


def read_source(source: str) -> tuple[bytes, str]:
    """Read an input file.

    Args:
        source: ``s3://bucket/key``, or a path relative to include/.

    Returns:
        Its bytes, and its name for messages.

    Raises:
        InputError: if there is no such file, or it lies outside of include/.

    """
    if source.startswith("s3://"):
        return read_object(source), source
    path = local_path(source)
    try:
        return path.read_bytes(), f"include/{source}"
    except OSError as error:
        raise InputError(f"include/{source} cannot be read ({error.strerror}): put the file there") from error


def local_path(source: str) -> Path:
    """The path of a file that is named relative to include/; raises InputError where it lies elsewhere."""
    path = (INCLUDE / source).resolve()
    if not path.is_relative_to(INCLUDE.resolve()):
        raise InputError(f"{source} lies outside of include/: put the file there, or name an object as s3://bucket/key")
    return path
