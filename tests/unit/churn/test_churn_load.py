"""How a CSV gets into the warehouse; that it does is in tests/integration/churn."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
from astro.sql.operators.load_file import LoadFileOperator

from include import sources
from include.churn import schema
from include.churn.load import LoadCheckedFileOperator
from include.object_store import sha256_hex

ORDERS = b"order_id,customer_id,order_date,status\n1,7,2018-01-05,completed\n"


@pytest.fixture
def loaded(monkeypatch):
    """Path and bytes of the files that the SDK was given, in place of a warehouse."""
    files: list[tuple[Path, bytes]] = []

    def load_data(_, input_file, context):
        files.append((Path(input_file.path), Path(input_file.path).read_bytes()))

    monkeypatch.setattr(LoadFileOperator, "load_data", load_data)
    return files


def test_what_is_loaded_is_what_was_checked_even_if_the_source_changes_meanwhile(monkeypatch, tmp_path, loaded):
    source = tmp_path / "orders.csv"
    source.write_bytes(ORDERS)
    monkeypatch.setattr(sources, "INCLUDE", tmp_path)
    check_csv = schema.check_csv

    def check_and_change(content, name):
        rows = check_csv(content, name)
        source.write_bytes(b"not checked")
        return rows

    monkeypatch.setattr(schema, "check_csv", check_and_change)
    pushed: dict[str, str] = {}
    operator = LoadCheckedFileOperator(task_id="load_orders", name="orders", source="orders.csv")
    # without Airflow's watch over calls of execute, which expects a task instance
    execute = inspect.unwrap(LoadCheckedFileOperator.execute)

    execute(operator, {"ti": SimpleNamespace(xcom_push=pushed.__setitem__)})

    ((path, content),) = loaded
    assert content == ORDERS
    assert pushed == {"sha256": sha256_hex(ORDERS)}
    assert not path.exists()
