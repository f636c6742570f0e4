"""What a model was made with: digests of this project's code and of its locked packages."""

import hashlib
from functools import cache

from include.settings import INCLUDE


@cache
def code_digest() -> str:
    """SHA-256 (hex) over the names and contents of the Python and SQL files in include/."""
    digest = hashlib.sha256()
    for path in sorted(path for suffix in ("py", "sql") for path in INCLUDE.rglob(f"*.{suffix}")):
        digest.update(f"{path.relative_to(INCLUDE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def lock_digest() -> str:
    """SHA-256 (hex) of uv.lock, which names every installed package by version and hash."""
    return hashlib.sha256((INCLUDE.parent / "uv.lock").read_bytes()).hexdigest()
