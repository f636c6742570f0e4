"""Where XComs go: DataFrames to the XCom bucket as Parquet, everything else to Airflow's database as usual.

Airflow's own object storage backend decides by size and writes DataFrames as hexadecimal text inside JSON; the one of the
Astro SDK changes other values too. Here a DataFrame of any size is a Parquet file that keeps its types, and the database
holds its address.
"""

import io
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseXCom

from include.run_key import run_key
from include.settings import settings
from include.task_errors import fail_at_once

if TYPE_CHECKING:
    import pandas as pd

ADDRESS = "__dataframe__"


class ObjectStoreXComBackend(BaseXCom):
    """Set it as ``AIRFLOW__CORE__XCOM_BACKEND=include.xcom_backend.ObjectStoreXComBackend``."""

    @staticmethod
    def serialize_value(
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> Any:
        """Write DataFrames to the bucket and put their addresses in their place."""
        folder = f"s3://{settings.xcom_bucket}/{dag_id}/{run_key(run_id or 'no-run')}/{task_id}"
        if map_index is not None and map_index >= 0:
            folder += f"/{map_index}"
        return BaseXCom.serialize_value(_store_frames(value, f"{folder}/{key}"))

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Read the DataFrames back that are addressed in the value."""
        return _load_frames(BaseXCom.deserialize_value(result))


def _store_frames(value: Any, uri: str) -> Any:
    if isinstance(value, dict):
        return {name: _store_frames(each, f"{uri}.{run_key(str(name))}") for name, each in value.items()}
    if type(value) in (list, tuple) or hasattr(value, "_make"):
        return _like(value, [_store_frames(each, f"{uri}.{number}") for number, each in enumerate(value)])
    if type(value).__module__.split(".")[0] in ("pandas", "astro") and hasattr(value, "to_parquet"):
        return {ADDRESS: _store_frame(value, uri)}
    return value


@fail_at_once
def _store_frame(frame: "pd.DataFrame", uri: str) -> str:
    from include.object_store import sha256_hex, write_object

    data = frame.to_parquet()
    # named by content: what a reader of an earlier attempt has been given never changes under it
    address = f"{uri}-{sha256_hex(data)[:16]}.parquet"
    write_object(address, data)
    return address


def _load_frames(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {ADDRESS}:
            return _load_frame(value[ADDRESS])
        return {name: _load_frames(each) for name, each in value.items()}
    if type(value) in (list, tuple):  # a namedtuple among them, which Airflow stores as a tuple
        return _like(value, [_load_frames(each) for each in value])
    return value


def _like(value: Any, items: list[Any]) -> Any:
    """The items as a sequence of the value's kind: list, tuple or a namedtuple."""
    return value._make(items) if hasattr(value, "_make") else type(value)(items)


@fail_at_once
def _load_frame(address: str) -> "pd.DataFrame":
    import pandas as pd

    from include.object_store import read_object

    return pd.read_parquet(io.BytesIO(read_object(address)))
