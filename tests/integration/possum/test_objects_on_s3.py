"""Objects, input files and XComs in the stack's S3, by this process's own Airflow connections."""

import os
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.exceptions import AirflowFailException

from include.errors import InputError
from include.object_store import read_object, sha256_hex, write_object
from include.settings import settings
from include.sources import read_source
from include.xcom_backend import ADDRESS, ObjectStoreXComBackend
from tests.support.local_stack import RunningStack

FRAME = pd.DataFrame(
    {
        "case": pd.array([1, 2, None], dtype="Int64"),
        "Pop": pd.Categorical(["Vic", "other", "Vic"]),
        "taill": [36.0, np.nan, 0.1 + 0.2],
        "seen": pd.to_datetime(["2026-11-20", "NaT", "2026-11-21"]),
        "sex": ["m", None, "f"],
    }
)


@pytest.fixture(autouse=True)
def buckets(stack_connections: RunningStack) -> RunningStack:
    """The buckets that feature_eng makes, in case that it has not run."""
    there = {bucket["Name"] for bucket in stack_connections.s3.list_buckets()["Buckets"]}
    for name in set(settings.buckets) - there:
        stack_connections.s3.create_bucket(Bucket=name)
    return stack_connections


@pytest.fixture
def uri() -> str:
    return f"s3://{settings.data_bucket_name}/tests/{os.urandom(6).hex()}"


class TestObjects:
    def test_what_is_written_can_be_read_by_anyone(self, stack, uri):
        digest = write_object(uri, b"possum")
        assert stack.object(uri) == b"possum"
        assert read_object(uri, sha256=digest) == b"possum"

    def test_object_that_somebody_else_has_changed_is_refused(self, stack, uri):
        digest = write_object(uri, b"possum")
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        stack.s3.put_object(Bucket=bucket, Key=key, Body=b"opossum")
        with pytest.raises(InputError, match=f"{uri} has changed .*{sha256_hex(b'opossum')}, expected {digest}"):
            read_object(uri, sha256=digest)

    def test_missing_object_and_missing_bucket_are_named(self, uri):
        for absent in (uri, "s3://no-such-bucket/key"):
            with pytest.raises(InputError, match=f"{absent} does not exist"):
                read_object(absent)

    def test_object_that_another_process_writes_again_is_read_anew(self, stack, uri):
        """No listing or content of it is cached in a worker that lives on."""
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        with pytest.raises(InputError):
            read_object(uri)
        for content in (b"first", b"second, longer"):
            stack.s3.put_object(Bucket=bucket, Key=key, Body=content)
            assert read_object(uri) == content

    def test_input_file_can_be_an_object(self, uri):
        write_object(uri, b"case\n1\n")
        assert read_source(uri) == (b"case\n1\n", uri)


def serialise(value: Any, run_id: str = "manual__2026-11-20T09:21:41+00:00", **where: Any) -> bytes:
    told: dict[str, Any] = {"key": "return_value", "task_id": "task", "dag_id": "dag", "run_id": run_id} | where
    return ObjectStoreXComBackend.serialize_value(value, **told)


class Stored:
    """What deserialize_value gets: a row of the table xcom."""

    def __init__(self, value: bytes) -> None:
        self.value = value


def load(value: bytes) -> Any:
    return ObjectStoreXComBackend.deserialize_value(Stored(value))


class TestXComs:
    def test_frame_comes_back_with_its_types_and_the_database_has_its_address(self, stack):
        stored = serialise(FRAME)
        assert len(stored) < 200
        assert ADDRESS.encode() in stored
        pd.testing.assert_frame_equal(load(stored), FRAME)
        folder = "dag/manual__2026-11-20T09-21-41-00-00/task/"
        assert any(key.endswith(".parquet") for key in stack.keys(settings.xcom_bucket, folder))

    def test_frames_inside_of_other_values_are_stored_too(self):
        value = load(serialise({"tables": [FRAME, FRAME.head(1)], "rows": 3}))
        assert value["rows"] == 3
        pd.testing.assert_frame_equal(value["tables"][0], FRAME)
        pd.testing.assert_frame_equal(value["tables"][1], FRAME.head(1))

    def test_empty_frame_keeps_its_columns(self):
        empty = FRAME.head(0).drop(columns="Pop")  # Parquet keeps a category only where a row has it
        pd.testing.assert_frame_equal(load(serialise(empty)), empty)

    @pytest.mark.parametrize("value", [None, 0, 1.5, "text", True, [1, 2], {"a": {"b": [None, "c"]}}, []])
    def test_other_values_stay_as_they_are_in_the_database(self, stack, value):
        before = stack.keys(settings.xcom_bucket)
        assert load(serialise(value)) == value
        assert stack.keys(settings.xcom_bucket) == before

    def test_second_attempt_does_not_change_what_the_first_has_handed_over(self):
        first, second = serialise(FRAME), serialise(FRAME.head(2))
        pd.testing.assert_frame_equal(load(first), FRAME)
        pd.testing.assert_frame_equal(load(second), FRAME.head(2))

    @pytest.mark.parametrize(
        "other",
        [{"map_index": 1}, {"task_id": "other"}, {"dag_id": "other"}, {"run_id": "manual__2"}, {"key": "other"}],
    )
    def test_each_run_task_instance_and_key_has_an_object_of_its_own(self, other):
        assert serialise(FRAME, **{"map_index": 0} | other) != serialise(FRAME, map_index=0)

    def test_frame_whose_object_is_gone_says_which(self, stack):
        stored = serialise(FRAME, task_id="gone")
        for key in stack.keys(settings.xcom_bucket, "dag/manual__2026-11-20T09-21-41-00-00/gone/"):
            stack.s3.delete_object(Bucket=settings.xcom_bucket, Key=key)
        with pytest.raises(AirflowFailException, match=r"s3://localxcom/dag/.*/gone/.* does not exist"):
            load(stored)
