"""Every name that the project uses can be changed by one environment variable, and is the tutorials' otherwise."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from include.errors import ConfigurationError
from include.settings import FORMER_NAMES, INCLUDE, Settings, read_settings, settings

TUTORIAL = {
    "AWS_CONN_ID": "aws_default",
    "MLFLOW_CONN_ID": "mlflow_default",
    "POSTGRES_CONN_ID": "postgres_default",
    "DATA_BUCKET_NAME": "data",
    "MLFLOW_ARTIFACT_BUCKET": "mlflowdatapossums",
    "XCOM_BUCKET": "localxcom",
    "POSSUM_EXPERIMENT_NAME": "Possum_tails",
    "POSSUM_REGISTERED_MODEL_NAME": "Reg_RidgeCV_possums",
    "POSSUM_FILE_PATH": "possum.csv",
    "POSSUM_TARGET_COLUMN": "taill",
    "POSSUM_CATEGORICAL_COLUMNS": ("site", "Pop", "sex"),
    "POSSUM_NUMERIC_COLUMNS": (
        *("age", "hdlngth", "skullw", "totlngth", "footlgth", "earconch", "eye", "chest", "belly"),
    ),
    "WANDB_PROJECT": "customer_churn",
}
WITHOUT_PREFIX = {
    *("AWS_CONN_ID", "MLFLOW_CONN_ID", "POSTGRES_CONN_ID"),
    *("DATA_BUCKET_NAME", "MLFLOW_ARTIFACT_BUCKET", "XCOM_BUCKET"),
}


def value_of(variable: str, chosen: Settings) -> Any:
    value = reduce(getattr, Settings.variables()[variable], chosen)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@pytest.mark.parametrize(("variable", "value"), TUTORIAL.items())
def test_default_is_the_tutorials(variable, value):
    assert value_of(variable, Settings()) == value


@pytest.mark.parametrize("variable", Settings.variables())
def test_field_can_be_changed_by_the_variable_of_its_name(variable, monkeypatch):
    default = value_of(variable, settings)
    chosen: object
    if isinstance(default, tuple):
        chosen, text = ("eye", "sex"), '["eye", "sex"]'
    elif isinstance(default, float):
        chosen = default / 2
        text = str(chosen)
    else:
        chosen = text = "other"
    monkeypatch.setenv(variable, text)
    assert value_of(variable, Settings()) == chosen


def test_all_but_names_of_connections_and_buckets_have_a_prefix():
    prefixes = ("POSSUM_", "CHURN_", "PIPELINES_", "WANDB_")
    assert {name for name in Settings.variables() if not name.startswith(prefixes)} == WITHOUT_PREFIX


@pytest.mark.parametrize("stray", [*FORMER_NAMES, "POSSUM", "CHURN", "PIPELINES", "POSSUM_", "CHURN_OTHER"])
@pytest.mark.filterwarnings("ignore:These environment variables are ignored")
def test_a_variable_that_is_not_meant_for_this_project_changes_nothing(stray, monkeypatch):
    monkeypatch.setenv(stray, "/x.csv")
    assert read_settings() == settings


def test_former_names_are_named_in_one_warning_with_their_new_names(monkeypatch):
    monkeypatch.setenv("FILE_PATH", "x.csv")
    monkeypatch.setenv("WAREHOUSE_SCHEMA", "mine")
    with pytest.warns(UserWarning, match="ignored") as said:
        read_settings()
    (warning,) = said
    assert "FILE_PATH is now POSSUM_FILE_PATH, WAREHOUSE_SCHEMA is now CHURN_WAREHOUSE_SCHEMA" in str(warning.message)
    assert set(FORMER_NAMES.values()) <= set(Settings.variables())


def test_empty_variable_means_the_default(monkeypatch):
    """As in a .env file with nothing filled in."""
    monkeypatch.setenv("DATA_BUCKET_NAME", "")
    monkeypatch.setenv("POSSUM_FILE_PATH", "")
    assert Settings() == settings


# Names: those that work everywhere, and those that are refused with the rule before anything runs

BUCKETS = {
    "right": ["abc", "my-data.2026", "a" * 63],
    "wrong": [
        "My_Data",
        "a b",
        "ab",
        "da:ta",
        "-data",
        "data-",
        "a..b",
        "192.168.5.4",
        "a" * 64,
        "däta",
        'da"ta',
        "a/b",
    ],
}
MLFLOW_NAMES = {
    "right": ["Possum tails", "possum-tails.v2", "a" * 250],
    "wrong": ["a:b", "a/b", "O'Brien", 'say "x"', " x", "x ", "kündigung", "a" * 251, "/Users/me/x", "a\nb"],
}
NAMES: dict[str, dict[str, list[str]]] = {
    "DATA_BUCKET_NAME": BUCKETS,
    "MLFLOW_ARTIFACT_BUCKET": BUCKETS,
    "XCOM_BUCKET": BUCKETS,
    "CHURN_MODEL_BUCKET": BUCKETS,
    "POSSUM_REGISTERED_MODEL_NAME": MLFLOW_NAMES,
    "POSSUM_EXPERIMENT_NAME": MLFLOW_NAMES,
    "CHURN_WAREHOUSE_SCHEMA": {
        "right": ["analytics", "_x1", "a" * 63],
        "wrong": ["Analytics", "my schema", "my-schema", "1st", 'a"b', "user", "select", "pg_mine", "a" * 64, "é"],
    },
    "CHURN_ARTIFACT_NAME": {
        "right": ["churn-v1.2", "Churn_Model"],
        "wrong": ["churn v1", "my/model", "kündigung", "churn:v2", "a" * 129, ".", ".."],
    },
    "WANDB_PROJECT": {
        "right": ["churn", "Churn-2026_x.y", "kündigung", ".churn"],
        "wrong": [
            "my-team/churn",
            "churn:v2",
            "a" * 129,
            "a b",
            "a#b",
            "a?b",
            "100%",
            "a\\b",
            "'churn'",
            '"churn"',
            "..",
        ],
    },
    "WANDB_ENTITY": {"right": ["my-team"], "wrong": ["a/b", "a b", "a" * 129, "..", '"my-team"']},
    "POSSUM_FILE_PATH": {
        "right": ["possum.csv", "my data/possums 2026.csv", "..x/y"],
        "wrong": [
            "s3://data/x.csv",
            "/x.csv",
            "a//b.csv",
            "a/",
            "../x.csv",
            "a/../b",
            "./x",
            "a#b.csv",
            "a'b.csv",
            "a?b",
        ],
    },
    "POSSUM_PLOT_FILE_NAME": {"right": ["tails of possums.png"], "wrong": ["a/b.png", "/a.png", "..", "a'b.png"]},
    "POSSUM_PREDICTIONS_FILE_NAME": {"right": ["p.csv"], "wrong": ["a/b.csv", ".", "a\tb.csv"]},
    "POSSUM_PICTURE_PATH": {"right": ["pictures/o.png"], "wrong": ["/o.png", "../o.png"]},
    "CHURN_DATA_DIR": {
        "right": ["data", "data/2026 05", "s3://shop/exports/may"],
        "wrong": ["data/", "/data", "../data", "s3://shop/", "s3://shop//x", "s3://shop/x/"],
    },
    "POSSUM_KEY_COLUMN": {"right": ["Case no."], "wrong": []},
}


@pytest.mark.parametrize(
    ("variable", "name"), [(variable, name) for variable, names in NAMES.items() for name in names["right"]]
)
def test_name_that_works_is_accepted(variable, name, monkeypatch):
    monkeypatch.setenv(variable, name)
    assert value_of(variable, read_settings()) == name


@pytest.mark.parametrize(
    ("variable", "name"), [(variable, name) for variable, names in NAMES.items() for name in names["wrong"]]
)
def test_name_that_does_not_work_is_refused_with_its_variable(variable, name, monkeypatch):
    monkeypatch.setenv(variable, name)
    with pytest.raises(ConfigurationError) as raised:
        read_settings()
    assert f"{variable}={name!r} cannot be used: " in str(raised.value)


def test_refused_settings_are_all_named_at_once(monkeypatch):
    monkeypatch.setenv("DATA_BUCKET_NAME", "My_Data")
    monkeypatch.setenv("POSSUM_NUMERIC_COLUMNS", "age")
    with pytest.raises(ConfigurationError, match=r"DATA_BUCKET_NAME=.*; POSSUM_NUMERIC_COLUMNS='age'.*JSON"):
        read_settings()


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(ValidationError):
        settings.data_bucket_name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.possum.file_path = "other"  # type: ignore[misc]


def test_raw_columns_are_the_columns_of_the_shipped_file():
    header = (INCLUDE / settings.possum.file_path).read_text(encoding="utf-8").splitlines()[0].split(",")
    assert sorted(settings.possum.raw_columns) == sorted(header)
    assert len(header) == 14


def test_example_environment_names_every_setting():
    """.env_example is where users look them up."""
    file = Path(__file__).parents[2] / ".env_example"
    if not file.exists():
        pytest.skip(".env_example is not in this copy of the project")
    text = file.read_text(encoding="utf-8")
    assert [name for name in Settings.variables() if f"{name}=" not in text] == []
