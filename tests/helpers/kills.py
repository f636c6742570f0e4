"""Kill a task's function at a chosen one of its writes, as SIGKILL would: nothing is written after it.

A target is a function that writes, as (owner, name): a class or module, and the attribute's name. Take those of the client's
lowest level, so that nothing is written past them: ``object_writes()``, ``mlflow_writes()``, the W&B client's own.

    for n in range(1, len(writes(task, targets)) + 1):
        with kill_at(n, targets):
            task()
        task()  # the next try; what is there now must be what one undisturbed call leaves
"""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

Target = tuple[Any, str]

# What the functions of MLflow's stores that write begin with
VERBS = ("create_", "delete_", "finalize_", "link_", "log_", "record_", "restore_", "set_", "transition_", "update_")


class Killed(BaseException):
    """What the function sees of its end; not an Exception, so that no handler for errors takes it for one."""


def writes(function: Callable[[], Any], targets: Iterable[Target]) -> list[str]:
    """Call the function, and give the names of the targets that it has called, in their order."""
    called: list[str] = []

    def stand_in(name: str, write: Callable[[], Any]) -> Any:
        called.append(name)
        return write()

    with _watched(targets, stand_in):
        function()
    return called


@contextmanager
def kill_at(n: int, targets: Iterable[Target], *, after: bool = False) -> Iterator[None]:
    """Kill what runs in the block at its n-th call of a target, counted from 1 over all of them and all threads.

    Args:
        n: which call.
        targets: the functions that write.
        after: whether that one write is done; otherwise it is not begun.

    The block ends quietly. Whatever calls a target after that, such as a ``finally``, is killed too: a dead process does not
    write. A block that makes fewer calls raises an AssertionError.

    """
    lock = threading.Lock()
    count, dead = 0, False

    def stand_in(name: str, write: Callable[[], Any]) -> Any:
        nonlocal count, dead
        with lock:
            if dead:
                raise Killed(f"{name}, after the end")
            count += 1
            dead = count == n
        if not dead:
            return write()
        if after:
            write()
        raise Killed(f"{'after' if after else 'before'} write {n}, {name}")

    try:
        with _watched(targets, stand_in):
            yield
    except BaseException:
        if not dead:
            raise
    assert dead, f"killed at write {n} should be what makes {count} writes only"


@contextmanager
def _watched(targets: Iterable[Target], stand_in: Callable[[str, Callable[[], Any]], Any]) -> Iterator[None]:
    """Call the stand-in in place of each target, with the target's name and the call that would have been."""

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return stand_in(name, functools.partial(function, *args, **kwargs))

        return watched

    patches = [mock.patch.object(owner, name, watch(name, getattr(owner, name))) for owner, name in targets]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def object_writes() -> list[Target]:
    """What include.object_store writes and removes objects with, whatever the store."""
    from airflow.sdk import ObjectStoragePath

    return [(ObjectStoragePath, "write_bytes"), (ObjectStoragePath, "unlink")]


def mlflow_writes() -> list[Target]:
    """What MLflow's client writes with: to a server or a database, and to S3 or a folder."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
    from mlflow.store.model_registry.rest_store import RestStore as RestRegistry
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as DatabaseRegistry
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    stores = (RestStore, SqlAlchemyStore, RestRegistry, DatabaseRegistry)
    return [
        *((store, name) for store in stores for name in dir(store) if name.startswith(VERBS)),
        *((LocalArtifactRepository, name) for name in ("log_artifact", "log_artifacts", "delete_artifacts")),
        *((S3ArtifactRepository, name) for name in ("_upload_file", "delete_artifacts")),
    ]
