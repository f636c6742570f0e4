"""Every name that the project uses can be changed by the environment, and is the tutorials' otherwise."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from include.settings import INCLUDE, Settings, settings

TUTORIAL = {
    "aws_conn_id": "aws_default",
    "mlflow_conn_id": "mlflow_default",
    "postgres_conn_id": "postgres_default",
    "data_bucket_name": "data",
    "mlflow_artifact_bucket": "mlflowdatapossums",
    "xcom_bucket": "localxcom",
    "experiment_name": "Possum_tails",
    "registered_model_name": "Reg_RidgeCV_possums",
    "file_path": "possum.csv",
    "target_column": "taill",
    "categorical_columns": ("site", "Pop", "sex"),
    "numeric_columns": ("age", "hdlngth", "skullw", "totlngth", "footlgth", "earconch", "eye", "chest", "belly"),
    "wandb_project": "customer_churn",
}


@pytest.mark.parametrize(("field", "value"), TUTORIAL.items())
def test_default_is_the_tutorials(field, value):
    assert getattr(Settings(), field) == value


@pytest.mark.parametrize("field", Settings.model_fields)
def test_field_can_be_changed_by_the_variable_of_its_name(field, monkeypatch):
    default = getattr(settings, field)
    chosen: object
    if isinstance(default, tuple):
        chosen, text = ("eye", "sex"), '["eye", "sex"]'
    elif isinstance(default, float):
        chosen = default / 2
        text = str(chosen)
    else:
        chosen = text = "other"
    monkeypatch.setenv(field.upper(), text)
    value = getattr(Settings(), field)
    assert (value.get_secret_value() if isinstance(value, SecretStr) else value) == chosen


def test_empty_variable_means_the_default(monkeypatch):
    """As in a .env file with nothing filled in."""
    monkeypatch.setenv("DATA_BUCKET_NAME", "")
    assert Settings().data_bucket_name == "data"


@pytest.mark.parametrize("name", ["a/b", "a:b"])
def test_model_name_that_mlflow_refuses_is_refused(name, monkeypatch):
    monkeypatch.setenv("REGISTERED_MODEL_NAME", name)
    with pytest.raises(ValidationError, match="neither ':' nor '/'"):
        Settings()


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(ValidationError):
        settings.data_bucket_name = "other"  # type: ignore[misc]


def test_raw_columns_are_the_columns_of_the_shipped_file():
    header = (INCLUDE / settings.file_path).read_text().splitlines()[0].split(",")
    assert sorted(settings.raw_columns) == sorted(header)
    assert len(header) == 14


def test_buckets_are_the_three_of_the_possum_pipeline():
    assert settings.buckets == ["data", "mlflowdatapossums", "localxcom"]


def test_example_environment_names_every_setting():
    """.env_example is where users look them up."""
    file = Path(__file__).parents[2] / ".env_example"
    if not file.exists():
        pytest.skip(".env_example is not in this copy of the project")
    text = file.read_text()
    assert [field for field in Settings.model_fields if f"{field.upper()}=" not in text] == []


def test_lists_are_written_as_json(monkeypatch):
    monkeypatch.setenv("NUMERIC_COLUMNS", json.dumps(["age", "belly"]))
    assert Settings().numeric_columns == ("age", "belly")
