"""The `airflow` command with the libraries of the DAG files imported beforehand: `python -m local_stack.preloaded scheduler`.

The scheduler's LocalExecutor and the Celery workers fork the tasks' processes from their own, and the dag-processor those that
read DAG files, so what it has imported costs them nothing: several seconds each. Where processes are not forked, as on macOS,
it does not help, and each imports what it needs.
"""

# Before anything of Airflow: it asks every module for every name that it knows, and Airflow's say of many that they are old
import skops.io  # noqa: F401  # isort: skip

import include.legacy_packages

import ast
import functools
import gc
import importlib
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import boto3
from airflow.__main__ import main
from airflow.providers_manager import ProvidersManager
from botocore.loaders import JSONFileLoader

from local_stack.config import PROJECT, Stack
from local_stack.processes import end_leftovers

OWN = ("include", "plugins")  # not preloaded: an edit counts from the next task on
# What the libraries themselves import only when they are used
LATER = (
    "matplotlib.backends.backend_agg",
    "mlflow.sklearn",
    "mlflow.store.artifact.s3_artifact_repo",
    "mlflow.tracking.request_header.registry",
    "pandas.plotting._matplotlib",
    "pandera.backends.pandas.register",
    "pyarrow.dataset",
)


def import_what_is_used(*folders: Path) -> None:
    """Import the modules of other packages that the Python files below the folders import, also within functions."""
    trees = (ast.parse(path.read_bytes()) for folder in folders for path in sorted(folder.rglob("*.py")))
    for module, names in chain.from_iterable(map(_imports, trees)):
        if module.partition(".")[0] not in {*OWN, *sys.stdlib_module_names}:
            __import__(module, fromlist=names)  # a name may be that of a module within


def _imports(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module), [alias.name for alias in node.names]
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _imports(node)


def read_once() -> None:
    """Let botocore keep its descriptions of AWS, of which each session parses a megabyte anew, for the tasks' clients."""
    kept = functools.cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _, file_path: kept(file_path)  # type: ignore[method-assign, assignment]
    # with made-up keys: without any it would look for some, at last on the network, in Amazon's cloud
    session = boto3.session.Session(aws_access_key_id="-", aws_secret_access_key="-")  # noqa: S106
    session.client("s3", region_name="us-east-1")


def preload() -> None:
    """Import what tasks use, and read what each of them would have to read again."""
    import_what_is_used(PROJECT / "dags", PROJECT / "include")
    for module in LATER:
        importlib.import_module(module)
    providers = ProvidersManager()  # each task would look for the providers' entry points anew
    providers.initialize_providers_hooks()
    providers.initialize_providers_filesystems()
    providers.initialize_providers_extra_links()
    read_once()
    gc.freeze()  # a task's garbage collector need not look through all that, and copy its memory by doing so


if __name__ == "__main__":
    if sys.argv[1] == "scheduler":
        end_leftovers(Stack())
    preload()
    main()
