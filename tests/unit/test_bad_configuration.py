"""Broken CSVs and wrong settings by the dozen: each ends in an error that names the culprit.

Those that need a service to be seen are in tests/integration/resilience/test_bad_connections.py.
"""

import io
import json
from collections.abc import Callable, Iterator

import pandas as pd
import pytest

from include.churn.model import make_classifier
from include.churn.schema import check_csv
from include.errors import ConfigurationError, InputError
from include.possum import schema as possum_schema
from include.possum.model import make_regressor
from include.settings import INCLUDE, Settings, read_settings, settings
from include.sources import read_source
from include.task_errors import hopeless
from include.wandb_tracking.runs import tracked_run
from include.wandb_tracking.target import tracking_target

LINE = 8  # of the file, header included, that gets the bad value
CHURN = ("subscription_periods", "util_months", "customers", "orders", "payments")
FILES = {
    "possum": INCLUDE / settings.possum.file_path,
    **{name: INCLUDE / settings.churn.data_dir / f"{name}.csv" for name in CHURN},
}
# where anything is right
FREE_TEXT = {"customers": {"first_name", "last_name"}, "orders": {"status"}, "payments": {"payment_method"}}
ONE_COLUMN = {"util_months"}


def check(name: str, content: bytes) -> None:
    """What the task that reads the file does with it."""
    if name == "possum":
        possum_schema.read_animals(content, "possum.csv")
    else:
        check_csv(content, name)


def table_of(name: str) -> pd.DataFrame:
    return pd.read_csv(FILES[name], dtype=str, keep_default_na=False)


def as_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def with_value(table: pd.DataFrame, column: str, value: str) -> bytes:
    table.loc[LINE - 2, column] = value
    return as_csv(table)


# Defects that any table can have
DEFECTS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "nothing": lambda _: b"",
    "only-line-breaks": lambda _: b"\n\n\n",
    "header-only": lambda table: as_csv(table.head(0)),
    "no-header": lambda table: table.to_csv(index=False, header=False).encode(),
    "binary": lambda _: (INCLUDE / settings.possum.picture_path).read_bytes(),
    "other-alphabet": lambda table: table.to_csv(index=False).encode("utf-16"),
    "semicolons": lambda table: table.to_csv(index=False, sep=";").encode(),
    "tabs": lambda table: table.to_csv(index=False, sep="\t").encode(),
    "web-page": lambda _: b"<!DOCTYPE html>\n<html><body>Log in first, please</body></html>\n",
    "json": lambda table: table.to_json(orient="records").encode(),
    "column-twice": lambda table: as_csv(pd.concat([table, table.iloc[:, [1]]], axis=1)),
    "line-with-one-value-more": lambda table: as_csv(table) + b",".join([b"1"] * (table.shape[1] + 1)) + b"\n",
    "cut-off-in-a-quote": lambda table: as_csv(table) + b'"',
    "key-twice": lambda table: as_csv(pd.concat([table, table.head(1)])),
}


OF_SEVERAL_COLUMNS = {"semicolons", "tabs", "column-twice"}


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        (name, defect)
        for name in FILES
        for defect in DEFECTS
        if not (name in ONE_COLUMN and defect in OF_SEVERAL_COLUMNS)
    ],
)
def test_broken_file_is_named(name, defect):
    with pytest.raises(InputError, match=rf"{name}\.csv"):
        check(name, DEFECTS[defect](table_of(name)))


def columns() -> Iterator[tuple[str, str]]:
    for name in FILES:
        yield from ((name, str(column)) for column in table_of(name))


@pytest.mark.parametrize(("name", "column"), columns())
def test_missing_column_is_named(name, column):
    with pytest.raises(InputError) as raised:
        check(name, as_csv(table_of(name).drop(columns=column)))
    assert f"{name}.csv" in str(raised.value)
    assert f"'{column}'" in str(raised.value) or name in ONE_COLUMN  # then nothing is left


@pytest.mark.parametrize("value", ["?!", "1e400", "'; DROP TABLE customers; --"])
@pytest.mark.parametrize(("name", "column"), columns())
def test_bad_value_is_told_with_column_and_line(name, column, value):
    content = with_value(table_of(name), column, value)
    if column in FREE_TEXT.get(name, ()):
        check(name, content)
        return
    with pytest.raises(InputError) as raised:
        check(name, content)
    for word in (f"{name}.csv", column, f"line {LINE}"):
        assert word in str(raised.value)


# Settings

SETTINGS = {
    "PIPELINES_DRIFT_SIGNIFICANCE": ["2", "0", "-0.1", "often"],
    "POSSUM_REGISTERED_MODEL_NAME": ["a:b", "a/b"],
    "POSSUM_CATEGORICAL_COLUMNS": ["site,Pop", "{", '"site"', "[1, {}]"],
    "POSSUM_NUMERIC_COLUMNS": ["age", "7"],
}


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name, values in SETTINGS.items() for value in values]
)
def test_setting_that_cannot_be_is_named_when_the_dag_files_are_read(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable):
        read_settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSSUM_NUMERIC_COLUMNS", json.dumps(["age", "wingspan"])),
        ("POSSUM_CATEGORICAL_COLUMNS", json.dumps(["site", "colour"])),
        ("POSSUM_KEY_COLUMN", "id"),
        ("POSSUM_TARGET_COLUMN", "tail"),
    ],
)
def test_column_that_nobody_knows_is_named(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(possum_schema, "settings", Settings())
    unknown = {"wingspan", "colour", "id", "tail"} & {*json.loads(value)} if value.startswith("[") else {value}
    with pytest.raises((InputError, ConfigurationError), match=rf"'{unknown.pop()}'"):
        possum_schema.read_animals(FILES["possum"], "possum.csv")


@pytest.mark.parametrize("source", ["absent.csv", "data", "../pyproject.toml", "/etc/passwd", "data/../../uv.lock"])
def test_source_that_is_no_file_of_the_project_is_named(source):
    with pytest.raises(InputError, match=source):
        read_source(source)


def test_picture_that_is_not_there_is_named(tmp_path):
    from include.possum.plots import plot_predictions

    table = "case,true_taill,predicted_taill,used_for_training\n1,36,37,True\n2,38,37,False\n"
    predictions = pd.read_csv(io.StringIO(table))
    with pytest.raises((InputError, ConfigurationError), match=r"absent\.png"):
        plot_predictions(predictions, tmp_path / "absent.png", subtitle="")


# Hyper-parameters

RIDGE = [
    {"alpha": 1},
    {"alphas": "small"},
    {"alphas": []},
    {"alphas": [0.1, -1]},
    {"alphas": [[1, 2]]},
    {"alphas": [0.1, None]},
    {"fit_intercept": "maybe"},
    {"scoring": "nonsense"},
    ["alphas"],
]
FOREST = [
    {"trees": 10},
    {"n_estimators": "many"},
    {"n_estimators": 0},
    {"n_estimators": 1.5},
    {"max_depth": -1},
    {"criterion": "nonsense"},
    {"max_features": "all"},
    {"class_weight": "nonsense"},
]


@pytest.mark.parametrize("given", RIDGE, ids=json.dumps)
def test_hyper_parameters_that_ridge_cannot_take_are_quoted(given):
    with pytest.raises(ConfigurationError, match="hyper_parameters") as raised:
        make_regressor(given)
    assert str(next(iter(given))) in str(raised.value)


@pytest.mark.parametrize("given", FOREST, ids=json.dumps)
def test_hyper_parameters_that_the_forest_cannot_take_are_quoted(given):
    with pytest.raises(ConfigurationError, match="hyper_parameters") as raised:
        make_classifier(given, seed=1)
    assert next(iter(given)) in str(raised.value)


# Weights & Biases

WANDB: list[tuple[dict[str, str], str]] = [
    ({"WANDB_MODE": "sometimes"}, "WANDB_MODE=sometimes"),
    ({"WANDB_MODE": "disabled"}, "WANDB_MODE=disabled"),
    ({"WANDB_MODE": "online"}, "WANDB_API_KEY"),
    ({"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": "not a url"}, "WANDB_BASE_URL='not a url'"),
    ({"WANDB_API_KEY": "k" * 40 + " "}, "WANDB_API_KEY has a blank"),
    ({"WANDB_INIT_TIMEOUT": "long"}, "WANDB_INIT_TIMEOUT"),
    ({"WANDB_HTTP_TIMEOUT": "ten"}, "WANDB_HTTP_TIMEOUT"),
]


@pytest.mark.parametrize(("environ", "named"), WANDB)
def test_what_wandb_cannot_work_with_is_named_before_anything_is_recorded(environ, named, monkeypatch, tmp_path):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match=named), tracked_run("r1", job_type="train", group="g", name="n"):
        pass
    assert list(tmp_path.rglob("*.wandb")) == []


def test_wandb_key_is_in_no_message(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    target = tracking_target()
    assert target.online  # so the key was read
    assert "k" * 40 not in str(target)


# What the clients of the services raise, made by hand; real ones in the integration tests


def client_error(code: str) -> Exception:
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": code, "Message": "said the server"}}, "PutObject")


def wrapped(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize("code", ["403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
@pytest.mark.parametrize("inside", [False, True])
def test_refused_login_of_the_object_store_is_hopeless_and_named(code, inside):
    error = client_error(code)
    reason = hopeless(wrapped(RuntimeError("upload failed"), error) if inside else error)
    assert reason
    assert "login and password of connection aws_default" in reason


@pytest.mark.parametrize("code", ["500", "503", "SlowDown", "InternalError"])
def test_object_store_in_trouble_is_not_hopeless(code):
    assert hopeless(client_error(code)) is None


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "UNAUTHENTICATED"])
def test_refusal_of_mlflow_is_hopeless_and_named(code):
    from mlflow.exceptions import RestException

    reason = hopeless(RestException({"error_code": code, "message": "no"}))
    assert reason
    assert "connection mlflow_default" in reason


@pytest.mark.parametrize(
    ("said", "is_hopeless"),
    [
        ('FATAL:  password authentication failed for user "warehouse"', True),
        ('FATAL:  database "nowhere" does not exist', True),
        ("fe_sendauth: no password supplied", True),
        ('FATAL:  permission denied for database "airflow"', True),
        ("Connection refused", False),
        ("FATAL:  the database system is starting up", False),
        ("FATAL:  sorry, too many clients already", False),
    ],
)
def test_refusal_of_postgres_is_told_from_one_that_passes(said, is_hopeless):
    from psycopg import OperationalError

    reason = hopeless(
        wrapped(RuntimeError("sql"), OperationalError(f'connection to server at "h", port 1 failed: {said}'))
    )
    assert bool(reason) == is_hopeless
    assert not reason or "connection postgres_default" in reason


def test_connection_that_cannot_be_read_is_told_from_one_that_is_not_there(monkeypatch):
    from airflow.sdk.exceptions import AirflowNotFoundException

    error = AirflowNotFoundException("The conn_id `mlflow_default` isn't defined")
    assert "define the connection" in str(hopeless(error))
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "{")
    assert "AIRFLOW_CONN_MLFLOW_DEFAULT is set, but cannot be read" in str(hopeless(error))
