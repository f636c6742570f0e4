"""Bad input stops customer_analytics at once, says where it is bad, and leaves the former predictions alone.

One folder of bad files, and a run that cannot train a model, go through the scheduler; for the others the task's operator is
called. Other reasons why no model can be trained are in tests/unit/churn/test_churn_model.py.
"""

import copy

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.settings import INCLUDE, settings
from tests.helpers.dags import load_dag

LINE = 8  # of the file, header included, that gets the bad value


def with_value(table, column, value):
    table = table.copy()
    table.loc[LINE - 2, column] = value
    return table


# name of a file: what becomes of it, and words that the message must have. Each task checks its own file, so that one run
# tells about five of them.
BAD_FILES = {
    "broken": {
        "subscription_periods": (lambda table: table.drop(columns="end_date"), ["line 1", "'end_date'"]),
        "util_months": (
            lambda _: (INCLUDE / settings.possum.picture_path).read_bytes(),
            ["is no CSV but a binary file"],
        ),
        "customers": (
            lambda table: with_value(table, "customer_id", table.loc[0, "customer_id"]),
            ["column 'customer_id'", "used more than once", "line 2", f"line {LINE}"],
        ),
        "orders": (
            lambda table: with_value(table, "order_date", "2020-02-30"),
            ["column 'order_date'", "not a date", f"line {LINE} ('2020-02-30')"],
        ),
        "payments": (
            lambda table: with_value(table, "amount", "-5"),
            ["column 'amount'", "too small", f"line {LINE} ('-5')"],
        ),
    },
    "missing": {
        "subscription_periods": (lambda _: None, ["does not exist"]),
        "util_months": (lambda _: b"", ["util_months.csv is empty"]),
        "customers": (lambda table: table.head(0), ["has a header but no rows"]),
        "orders": (
            lambda table: table.drop(columns="customer_id").assign(client=1),
            ["line 1", "lacks 'customer_id'"],
        ),
        "payments": (
            lambda table: table.to_csv(index=False).replace(",", ";").encode(),
            ["line 1", "The separator seems to be ';'"],
        ),
    },
}
CASES = [(folder, name) for folder, files in BAD_FILES.items() for name in files]


def message(log):
    return log[log.index("AirflowFailException") :]


@pytest.fixture(scope="module")
def folders(churn, shipped):
    """The folders' addresses."""

    def put(folder, changes):
        tables = shipped()
        changed = {name: change(tables[name]) for name, (change, _) in changes.items()}
        return churn.put_folder(folder, {name: content for name, content in changed.items() if content is not None})

    return {folder: put(folder, changes) for folder, changes in BAD_FILES.items()}


@pytest.fixture(scope="module")
def bad_runs(churn, shipped, folders, at_last):
    """Two runs at once: on bad files, and on good files with unknown hyper-parameters."""
    tables = shipped()
    orphans = {
        "orders": with_value(tables["orders"], "customer_id", "999999"),
        "payments": with_value(tables["payments"], "order_id", "999999"),
        "subscription_periods": with_value(tables["subscription_periods"], "customer_id", "999999"),
    }
    runs = [
        churn.trigger(source=folders["broken"]),
        churn.trigger(
            source=churn.put_folder("orphans", tables | orphans), hyper_parameters={"trees": 10, "n_estimators": 10}
        ),
    ]
    return [churn.wait(run, "failed") for run in runs]


@pytest.fixture(scope="module")
def bad_files(bad_runs):
    return bad_runs[0]


@pytest.fixture(scope="module")
def bad_parameters(bad_runs):
    return bad_runs[1]


@pytest.fixture(scope="module")
def dag():
    return load_dag("customer_analytics")


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_the_task_gives_up_and_names_file_column_and_line(stack_connections, dag, folders, folder, name):
    task = copy.copy(dag.get_task(f"extract_and_load.load_{name}"))
    task.source = f"{folders[folder]}/{name}.csv"
    with pytest.raises(AirflowFailException) as refused:
        task.execute({"params": {}})
    for word in [f"{name}.csv", *BAD_FILES[folder][name][1]]:
        assert word in str(refused.value)


@pytest.mark.parametrize("name", BAD_FILES["broken"])
def test_the_task_fails_on_its_first_try_and_says_the_same_in_its_log(bad_files, name):
    task = bad_files.tasks[f"extract_and_load.load_{name}"]
    assert (task["state"], task["try_number"]) == ("failed", 1)
    said = message(bad_files.log(f"extract_and_load.load_{name}"))
    for word in [f"{name}.csv", *BAD_FILES["broken"][name][1]]:
        assert word in said


def test_nothing_after_the_check_runs(bad_files):
    later = {name: state for name, state in bad_files.states.items() if not name.startswith("extract_and_load")}
    assert set(later.values()) - {"success"} == {"upstream_failed"}
    # these two look at no data
    need_no_data = {"create_buckets_if_not_exists", "train_or_score"}
    assert {name for name, state in later.items() if state == "success"} == need_no_data


def test_what_makes_no_model_fails_at_once_with_the_reason(bad_parameters):
    assert (bad_parameters.states["train"], bad_parameters.tasks["train"]["try_number"]) == ("failed", 1)
    assert bad_parameters.states["predict"] == "upstream_failed"
    for word in ["hyper_parameters has ['trees']", "Allowed: [", "'max_depth'"]:
        assert word in message(bad_parameters.log("train"))


def test_rows_that_belong_to_nobody_are_counted_in_the_log(bad_parameters):
    log = bad_parameters.log("left_out.describe")
    assert "1 orders belong to customers who are not in customers.csv: left out" in log
    assert "1 payments belong to orders that are not in orders.csv: left out" in log
    assert "1 subscription periods belong to customers who are not in customers.csv: left out" in log


def test_predictions_champion_and_models_stay_as_they_were(churn, at_last, bad_runs):
    after = churn.snapshot()
    assert after["champion"] == at_last["champion"]
    assert after["models"] == at_last["models"]
    for name, predictions in at_last["predictions"].items():
        pd.testing.assert_frame_equal(after["predictions"][name], predictions)
