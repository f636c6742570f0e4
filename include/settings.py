"""The one place for settings: names of connections, buckets, experiments, models, files, columns.

The environment changes each of them. A field of a pipeline has the pipeline's prefix (``POSSUM_FILE_PATH=...``), a field
that all pipelines share has ``PIPELINES_``; names of connections and buckets have none. Lists are written as JSON
(``POSSUM_NUMERIC_COLUMNS=["age","belly"]``). ``.env_example`` lists them all. Where services are and how to log in is not
here: that is what the Airflow connections named below say.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from include.errors import ConfigurationError

INCLUDE = Path(__file__).parent

# Names that were read before they had a prefix, and what they are called now
FORMER_NAMES = {
    **{
        name: f"POSSUM_{name}"
        for name in (
            "FILE_PATH",
            "EXPERIMENT_NAME",
            "REGISTERED_MODEL_NAME",
            "PICTURE_PATH",
            "PLOT_FILE_NAME",
            "PREDICTIONS_FILE_NAME",
            "KEY_COLUMN",
            "TARGET_COLUMN",
            "CATEGORICAL_COLUMNS",
            "NUMERIC_COLUMNS",
        )
    },
    "WAREHOUSE_SCHEMA": "CHURN_WAREHOUSE_SCHEMA",
    **{name: f"PIPELINES_{name}" for name in ("MLFLOW_UI_URL", "OBJECT_UI_URL", "NOTIFY_URL", "DRIFT_SIGNIFICANCE")},
}


def _bucket_name(name: str) -> str:
    rule = (
        "a bucket's name has 3 to 63 lower-case letters, digits, hyphens and dots, and a letter or digit at both ends"
    )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name) or ".." in name:
        raise ValueError(rule)
    try:
        ip_address(name)
    except ValueError:
        return name
    raise ValueError(f"{rule}; it is not an IP address")


def _schema_name(name: str) -> str:
    from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError(
            "a schema's name has at most 63 lower-case letters, digits and underscores, and no digit first"
        )
    if name in RESERVED_WORDS or name == "information_schema" or name.startswith("pg_"):
        raise ValueError("PostgreSQL reserves this name for itself: choose another")
    return name


def _matches(pattern: str, rule: str) -> AfterValidator:
    def check(name: str) -> str:
        if not re.fullmatch(pattern, name):
            raise ValueError(rule)
        return name

    return AfterValidator(check)


_WORDS = r"[A-Za-z0-9_.-](?:[A-Za-z0-9_. -]*[A-Za-z0-9_.-])?"  # a blank is neither first nor last
_PART = rf"(?!\.{{1,2}}(?:/|$)){_WORDS}"  # of a path, and neither . nor ..
Bucket = Annotated[str, AfterValidator(_bucket_name)]
Schema = Annotated[str, AfterValidator(_schema_name)]
MLflowName = Annotated[
    str, _matches(rf"(?=.{{1,250}}$){_WORDS}", "use at most 250 letters of A-Z, digits, blanks, '_', '.' and '-'")
]
FileName = Annotated[
    str, _matches(_PART, "use a file's name, without a folder: letters of A-Z, digits, blanks, '_', '.' and '-'")
]
RelativePath = Annotated[
    str,
    _matches(
        rf"{_PART}(?:/{_PART})*",
        "use a path relative to include/, without '..' and '//': letters of A-Z, digits, blanks, '_', '.', '-' and '/'",
    ),
]
SourceFolder = Annotated[
    str,
    _matches(
        rf"(?:s3://{_PART}/)?{_PART}(?:/{_PART})*",
        "use a folder relative to include/, or s3://bucket/prefix, without '..', '//' and '/' at its end",
    ),
]
WandbName = Annotated[
    str,
    _matches(
        r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,128}",
        "W&B accepts at most 128 letters of A-Z, digits, '_', '.' and '-', not only dots",
    ),
]
# wandb itself takes blanks and quotes; they most likely come from a file of variables and are not meant
WandbProject = Annotated[
    str,
    _matches(
        r"""(?!\.{1,2}$)[^/\\#?%:\s'"]{1,128}""",
        r"W&B accepts at most 128 characters, not only dots, and none of / \ # ? % :, quotes and blanks",
    ),
]
Column = Annotated[str, StringConstraints(min_length=1)]


def _from_json(columns: Any) -> Any:
    if not isinstance(columns, str):
        return columns
    try:
        return json.loads(columns)
    except ValueError:
        raise ValueError('write the columns as JSON: ["age","belly"]') from None


Columns = Annotated[tuple[Column, ...], NoDecode, BeforeValidator(_from_json)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True)


class PossumSettings(_Group):
    """The possum pipeline's settings, POSSUM_..."""

    file_path: RelativePath = Field("possum.csv", description="the animals' CSV, relative to include/")
    experiment_name: MLflowName = "Possum_tails"
    registered_model_name: MLflowName = "Reg_RidgeCV_possums"
    picture_path: RelativePath = Field(
        "opossum.png", description="the picture in the plot's corner, relative to include/"
    )
    plot_file_name: FileName = "possum_tails.png"
    predictions_file_name: FileName = "possum_predictions.csv"
    key_column: Column = "case"
    target_column: Column = "taill"
    categorical_columns: Columns = ("site", "Pop", "sex")
    numeric_columns: Columns = (
        "age",
        "hdlngth",
        "skullw",
        "totlngth",
        "footlgth",
        "earconch",
        "eye",
        "chest",
        "belly",
    )

    @property
    def raw_columns(self) -> list[str]:
        """Every column that the animals' CSV must have."""
        return [self.key_column, *self.categorical_columns, *self.numeric_columns, self.target_column]


class ChurnSettings(_Group):
    """The churn pipeline's settings, CHURN_..."""

    data_dir: SourceFolder = Field("data", description="folder of the five CSVs: relative to include/, or in a bucket")
    model_bucket: Bucket = "churnmodels"
    warehouse_schema: Schema = Field("tmp_astro", description="schema of the warehouse's tables")
    artifact_name: WandbName = "churn_classifier"


class PipelinesSettings(_Group):
    """What all pipelines share, PIPELINES_..."""

    mlflow_ui_url: str = Field("http://localhost:5000", description="MLflow's address in a browser, for links in logs")
    object_ui_url: str | None = Field(None, description="an object's page, with {bucket} and {key} in it; none without")
    notify_url: SecretStr | None = Field(None, description="Apprise URL for failure notifications; it holds a secret")
    drift_significance: float = Field(0.01, gt=0, lt=1, description="the rate of false drift alarms")


class Settings(BaseSettings):
    """All settings, read from the environment once, when this module is imported."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        nested_model_default_partial_update=True,
    )

    # connections, defined in the Airflow UI or as AIRFLOW_CONN_<ID>
    aws_conn_id: str = "aws_default"
    mlflow_conn_id: str = "mlflow_default"
    postgres_conn_id: str = "postgres_default"

    # buckets
    data_bucket_name: Bucket = "data"
    mlflow_artifact_bucket: Bucket = "mlflowdatapossums"
    xcom_bucket: Bucket = "localxcom"

    # Weights & Biases, as its own client calls them
    wandb_project: WandbProject = "customer_churn"
    wandb_entity: WandbName | None = None

    possum: PossumSettings = PossumSettings()
    churn: ChurnSettings = ChurnSettings()
    pipelines: PipelinesSettings = PipelinesSettings()

    @property
    def buckets(self) -> list[str]:
        """The buckets of all pipelines."""
        return [self.data_bucket_name, self.mlflow_artifact_bucket, self.xcom_bucket, self.churn.model_bucket]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, without variables that are named like a group (PIPELINES): they are some other program's."""
        assert isinstance(env_settings, EnvSettingsSource)
        ours = {name.lower() for name in cls.variables()}
        env_settings.env_vars = {name: value for name, value in env_settings.env_vars.items() if name in ours}
        return init_settings, env_settings

    @classmethod
    def variables(cls) -> dict[str, tuple[str, ...]]:
        """The environment variables that change settings, each with the path of its field."""
        variables: dict[str, tuple[str, ...]] = {}
        for name, field in cls.model_fields.items():
            if isinstance(group := field.annotation, type) and issubclass(group, _Group):
                variables |= {f"{name}_{inner}".upper(): (name, inner) for inner in group.model_fields}
            else:
                variables[name.upper()] = (name,)
        return variables


def read_settings() -> Settings:
    """The settings of this environment.

    Warns once of variables that are called otherwise now. Raises ConfigurationError, which names the variable and the
    rule, where a value cannot be used.
    """
    if former := [name for name in FORMER_NAMES if os.environ.get(name)]:
        renamed = ", ".join(f"{name} is now {FORMER_NAMES[name]}" for name in former)
        warnings.warn(f"These environment variables are ignored: {renamed}", stacklevel=2)
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_explained(each) for each in error.errors())) from None


def _explained(error: Mapping[str, Any]) -> str:
    """What is wrong with one variable. Its value is left out where that may be a secret."""
    variable = "_".join(str(part) for part in error["loc"] if isinstance(part, str)).upper()
    value = "" if variable == "PIPELINES_NOTIFY_URL" else f"={error['input']!r}"
    return f"{variable}{value} cannot be used: {str(error['msg']).removeprefix('Value error, ')}"


settings = read_settings()
