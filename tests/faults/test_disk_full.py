"""The disk behind the XCom bucket is full: the task fails clearly, leaves no half object, and succeeds with room again."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from include.object_store import sha256_hex
from include.settings import settings
from tests.support.breaking import tries
from tests.support.local_stack import RunningStack, await_that

TASK = "extract_data"


@contextmanager
def full_disk(stack: RunningStack) -> Iterator[None]:
    """A file system of 4 KB over the bucket's folder."""
    folder = stack.stack.s3_data / settings.xcom_bucket
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@dataclass(frozen=True)
class Full:
    """A run that met a full disk: its log then, and the objects that were there then."""

    run: str
    log: str
    objects: dict[str, bytes]


@pytest.fixture(scope="module")
def full(breakable: RunningStack) -> Full:
    airflow = breakable.airflow
    with full_disk(breakable):
        run = airflow.trigger("feature_eng")

        def state() -> str:
            return airflow.task("feature_eng", run, TASK)["state"]

        await_that(lambda: state() in ("up_for_retry", "failed", "success"))
        failed = state()
        log = airflow.log(airflow.task("feature_eng", run, TASK) | {"try_number": 1})
        keys = breakable.keys(settings.xcom_bucket)
        objects = {key: breakable.object(f"s3://{settings.xcom_bucket}/{key}") for key in keys}
    assert failed == "up_for_retry", log
    airflow.wait_for_success("feature_eng", run)
    return Full(run, log, objects)


def test_task_fails_clearly(full):
    assert "UP_FOR_RETRY" in full.log
    assert f"s3://{settings.xcom_bucket}/feature_eng/" in full.log
    assert "cannot be written" in full.log


def test_no_half_object_is_left_that_a_reader_takes_for_whole(full):
    for key, content in full.objects.items():
        name = key.rpartition("/")[2]
        assert sha256_hex(content)[:16] in name, f"{name} is not what its name says"


def test_run_succeeds_with_room_again(breakable, full):
    assert tries(breakable, "feature_eng", full.run)[TASK] >= 2
    reference = breakable.airflow.xcom("feature_eng", full.run, "end")
    for name in ("features", "animals"):
        assert sha256_hex(breakable.object(reference[f"{name}_uri"])) == reference[f"{name}_sha256"]
