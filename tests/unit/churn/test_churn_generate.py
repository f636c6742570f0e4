import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from include.churn import generate
from include.churn.schema import TABLES, check_csv

DATA = Path(__file__).parents[3] / "include" / "data"


def read_all(folder):
    return {name: (folder / f"{name}.csv").read_bytes() for name in TABLES}


def test_shipped_files_are_what_the_generator_writes(tmp_path):
    rows = generate.write_tables(100, 926, tmp_path)

    assert read_all(tmp_path) == read_all(DATA)
    assert rows == {
        "util_months": 63,
        "customers": 100,
        "subscription_periods": 123,
        "orders": 99,
        "payments": 113,
    }


def test_another_seed_writes_other_customers(tmp_path):
    generate.write_tables(100, 927, tmp_path)

    assert read_all(tmp_path)["customers"] != read_all(DATA)["customers"]


@pytest.mark.parametrize("chunk", [7, 40])
def test_chunks_go_on_with_the_keys(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(generate, "CHUNK", chunk)

    rows = generate.write_tables(40, 1, tmp_path, payments_per_order=3)

    for name, table in TABLES.items():
        assert check_csv(tmp_path / f"{name}.csv", name).rows == rows[name]
        written = pd.read_csv(tmp_path / f"{name}.csv")
        assert list(written.columns) == table.names
        if name not in ("util_months", "subscription_periods"):
            assert written.iloc[:, 0].tolist() == list(range(1, rows[name] + 1))
    assert set(pd.read_csv(tmp_path / "payments.csv")["order_id"]) == set(range(1, rows["orders"] + 1))


def test_shipped_subscriptions_show_what_the_docstring_promises():
    periods = pd.read_csv(DATA / "subscription_periods.csv", parse_dates=["start_date", "end_date"])
    months = pd.read_csv(DATA / "util_months.csv", parse_dates=["date_month"])["date_month"]
    by_start = periods.sort_values("start_date").groupby("customer_id")
    spans = [list(zip(rows["start_date"], rows["end_date"], strict=True)) for _, rows in by_start]
    neighbours = [pair for rows in spans for pair in itertools.pairwise(rows)]

    assert periods["end_date"].isna().sum() >= 10
    assert any(later[0] > earlier[1] for earlier, later in neighbours), "gaps"
    assert any(later[0] < earlier[1] for earlier, later in neighbours), "overlaps"
    assert (periods["start_date"] < months.min()).any()
    assert (periods.groupby("customer_id")["end_date"].max() <= months.min()).any()
    assert periods["customer_id"].nunique() < 100
    assert (periods["monthly_amount"] == 0).any()
    assert (periods["start_date"].dt.day > 1).any()
    assert (periods["end_date"] > periods["start_date"])[periods["end_date"].notna()].all()
    assert (pd.read_csv(DATA / "payments.csv")["amount"] % 100 != 0).any()


@pytest.mark.parametrize(("customers", "payments"), [(0, 1), (-1, 1), (5, 0.5)])
def test_too_small_numbers_are_refused(tmp_path, customers, payments):
    with pytest.raises(ValueError, match="1 or more"):
        generate.write_tables(customers, 1, tmp_path, payments)


def test_the_more_active_order_more_and_leave_less():
    rng = np.random.default_rng(0)
    ids = np.arange(20_000)
    activity = np.repeat([1.0, -1.0], 10_000)

    orders, _ = generate.make_orders(rng, ids, activity, 1)
    periods = generate.make_subscription_periods(rng, ids, activity, 1).to_pandas()
    goes_on = periods[periods["end_date"].isna()]["customer_id"]

    assert (orders["customer_id"].to_numpy() < 10_000).mean() > 0.8
    assert (goes_on < 10_000).mean() > 0.9


def test_command_line_writes_the_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["generate", "--customers", "5", "--seed", "2", "--out", str(tmp_path / "new")])

    generate.main()

    assert "customers 5" in capsys.readouterr().out
    assert check_csv(tmp_path / "new" / "customers.csv", "customers").rows == 5
