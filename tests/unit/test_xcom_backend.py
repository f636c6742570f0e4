"""What goes through the XCom backend comes back as it was; DataFrames by way of the bucket, here a dictionary."""

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd
import pytest
from airflow.sdk import BaseXCom

from include import object_store, xcom_backend
from include.xcom_backend import ObjectStoreXComBackend

FRAME = pd.DataFrame({"case": [1, 2]})


class Measurement(NamedTuple):
    name: str
    value: Any = None


@pytest.fixture
def bucket(monkeypatch) -> dict[str, bytes]:
    objects: dict[str, bytes] = {}

    def write(uri: str, data: bytes) -> None:
        object_store._check_key(uri)  # as the real one does
        objects[uri] = data

    monkeypatch.setattr(object_store, "write_object", write)
    monkeypatch.setattr(object_store, "read_object", objects.__getitem__)
    return objects


def there_and_back(value: Any) -> Any:
    stored = ObjectStoreXComBackend.serialize_value(value, key="k", task_id="t", dag_id="d", run_id="r")
    return ObjectStoreXComBackend.deserialize_value(SimpleNamespace(value=stored))


@pytest.mark.parametrize(
    "value",
    [
        Measurement("belly", 36.0),
        [Measurement("belly"), Measurement("eye")],
        {"a": (1, [2, {"b": None}])},
        OrderedDict(a=1),
        "text",
        None,
    ],
)
def test_value_without_a_frame_is_left_to_airflow(bucket, value):
    assert there_and_back(value) == BaseXCom.deserialize_value(SimpleNamespace(value=BaseXCom.serialize_value(value)))
    assert bucket == {}


def test_frame_in_a_namedtuple_goes_to_the_bucket(bucket):
    name, frame = there_and_back(Measurement("belly", FRAME))
    assert name == "belly"
    pd.testing.assert_frame_equal(frame, FRAME)
    assert len(bucket) == 1


class Odd(list):
    """A list that cannot be made of its items."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__([first, second])


def test_list_of_another_class_is_left_to_airflow():
    assert xcom_backend._store_frames(Odd(1, 2), "s3://b/k") == [1, 2]


@pytest.mark.parametrize("name", ["a//b", "..", "", "s3://b/k", 7])
def test_frame_under_any_name_has_a_key_that_every_server_takes(bucket, name):
    pd.testing.assert_frame_equal(there_and_back({name: FRAME})[str(name) if name == 7 else name], FRAME)
    assert len(bucket) == 1
