"""Bad input stops customer_analytics at once, says where it is bad, and leaves the former predictions alone."""

import pandas as pd
import pytest

from include.settings import INCLUDE, settings

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
def bad_files(churn, shipped, at_last):
    """A run for each folder, all triggered at once."""
    started = {}
    for folder, changes in BAD_FILES.items():
        tables = shipped()
        changed = {name: change(tables[name]) for name, (change, _) in changes.items()}
        source = churn.put_folder(folder, {name: content for name, content in changed.items() if content is not None})
        started[folder] = churn.trigger(source=source)
    return {folder: churn.wait(run, "failed") for folder, run in started.items()}


@pytest.fixture(scope="module")
def bad_data(churn, shipped, at_last):
    """Runs whose files are right, but cannot make a model."""
    tables = shipped()
    open_ended = tables["subscription_periods"].assign(end_date="")
    few = tables["customers"].head(12)
    orphans = {
        "orders": with_value(tables["orders"], "customer_id", "999999"),
        "payments": with_value(tables["payments"], "order_id", "999999"),
    }
    started = {
        "one class": churn.trigger(source=churn.put_folder("one", tables | {"subscription_periods": open_ended})),
        "few": churn.trigger(source=churn.put_folder("few", tables | {"customers": few})),
        "parameters": churn.trigger(
            source=churn.put_folder("orphans", tables | orphans), hyper_parameters={"trees": 10, "n_estimators": 10}
        ),
    }
    return {name: churn.wait(run, "failed") for name, run in started.items()}


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_the_task_fails_on_its_first_try_and_names_file_column_and_line(bad_files, folder, name):
    run = bad_files[folder]
    task = run.tasks[f"extract_and_load.load_{name}"]
    assert (task["state"], task["try_number"]) == ("failed", 1)
    said = message(run.log(f"extract_and_load.load_{name}"))
    for word in [f"{name}.csv", *BAD_FILES[folder][name][1]]:
        assert word in said


@pytest.mark.parametrize("folder", BAD_FILES)
def test_nothing_after_the_check_runs(bad_files, folder):
    later = {name: state for name, state in bad_files[folder].states.items() if not name.startswith("extract_and_load")}
    assert set(later.values()) - {"success"} == {"upstream_failed"}
    # these two look at no data
    need_no_data = {"create_buckets_if_not_exists", "train_or_score"}
    assert {name for name, state in later.items() if state == "success"} == need_no_data


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one class", ["0 of 100 customers have churned (1), 100 have not (0)", "choose an as-of date"]),
        ("few", ["of 12 customers have churned", "Load more customers"]),
        ("parameters", ["hyper_parameters has ['trees']", "Allowed: [", "'max_depth'"]),
    ],
)
def test_what_makes_no_model_fails_at_once_with_the_reason(bad_data, name, words):
    run = bad_data[name]
    assert (run.states["train"], run.tasks["train"]["try_number"]) == ("failed", 1)
    assert run.states["predict"] == "upstream_failed"
    for word in words:
        assert word in message(run.log("train"))


def test_rows_that_belong_to_nobody_are_counted_in_the_log(bad_data):
    log = bad_data["parameters"].log("left_out.describe")
    assert "1 orders belong to customers who are not in customers.csv: left out" in log
    assert "1 payments belong to orders that are not in orders.csv: left out" in log
    few = bad_data["few"].log("left_out.describe")
    assert "0 orders belong to customers" not in few
    assert "subscription periods belong to customers who are not in customers.csv: left out" in few


def test_predictions_champion_and_models_stay_as_they_were(churn, at_last, bad_files, bad_data):
    after = churn.snapshot()
    assert after["champion"] == at_last["champion"]
    assert after["models"] == at_last["models"]
    for name, predictions in at_last["predictions"].items():
        pd.testing.assert_frame_equal(after["predictions"][name], predictions)
