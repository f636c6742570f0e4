"""What a model was made with: digests of the pipeline's code and of the locked packages."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from include.settings import INCLUDE


@cache
def code_digest(pipeline: str) -> str:
    """SHA-256 (hex) over the names and contents of the code that makes a pipeline's models.

    That is the Python and SQL files of its package in include/, and the shared modules in include/ that they import, directly
    or through each other. What a model cannot depend on, such as another pipeline or the doctor, does not count.

    Args:
        pipeline: the package's name, such as "possum".

    Raises:
        ValueError: if there is no such package.

    """
    files = {path for suffix in ("py", "sql") for path in (INCLUDE / pipeline).rglob(f"*.{suffix}")}
    if not files:
        raise ValueError(f"There is no code in include/{pipeline}")
    unread = set(files)
    while unread:
        imported = _shared_imports(unread.pop()) - files
        files |= imported
        unread |= imported
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(INCLUDE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _shared_imports(path: Path) -> set[Path]:
    """The modules in include/ that a Python file imports at its top.

    Those that a function imports do not count: links.py would bring in Weights & Biases for every pipeline.
    """
    if path.suffix != ".py":
        return set()
    modules: list[str] = []
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ImportFrom):
            modules += [str(node.module), *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            modules += [each.name for each in node.names]
    places = [INCLUDE.joinpath(*name.split(".")[1:]) for name in modules if name.startswith("include.")]
    candidates = [path for place in places for path in (place.with_suffix(".py"), place / "__init__.py")]
    return {module for module in candidates if module.is_file()}


@cache
def lock_digest() -> str:
    """SHA-256 (hex) of uv.lock, which names every installed package by version and hash."""
    return hashlib.sha256((INCLUDE.parent / "uv.lock").read_bytes()).hexdigest()
