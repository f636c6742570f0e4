"""The one place for settings: names of connections, buckets, experiments, models, files, columns.

Each field can be changed by the environment variable of the same name in upper case (``DATA_BUCKET_NAME=...``); lists are
written as JSON (``NUMERIC_COLUMNS=["age","belly"]``). ``.env_example`` lists them all. Where services are and how to log in
is not here: that is what the Airflow connections named below say.
"""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

INCLUDE = Path(__file__).parent


class Settings(BaseSettings):
    """Settings of the four DAGs, read from the environment once, when this module is imported."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    # connections, defined in the Airflow UI or as AIRFLOW_CONN_<ID>
    aws_conn_id: str = "aws_default"
    mlflow_conn_id: str = "mlflow_default"
    postgres_conn_id: str = "postgres_default"

    # buckets
    data_bucket_name: str = "data"
    mlflow_artifact_bucket: str = "mlflowdatapossums"
    xcom_bucket: str = "localxcom"
    churn_model_bucket: str = "churnmodels"

    # where a browser finds what the tasks reach by the connections, for links in logs
    mlflow_ui_url: str = "http://localhost:5000"
    object_ui_url: str | None = Field(None, description="an object's page, with {bucket} and {key} in it; none without")

    # whom to tell when a task has failed: an Apprise URL, which holds a secret
    notify_url: SecretStr | None = None

    # the possum pipeline
    file_path: str = Field("possum.csv", description="the animals' CSV, relative to include/")
    experiment_name: str = "Possum_tails"
    registered_model_name: str = "Reg_RidgeCV_possums"
    picture_path: str = Field("opossum.png", description="the picture in the plot's corner, relative to include/")
    plot_file_name: str = "possum_tails.png"
    predictions_file_name: str = "possum_predictions.csv"
    key_column: str = "case"
    target_column: str = "taill"
    categorical_columns: tuple[str, ...] = ("site", "Pop", "sex")
    numeric_columns: tuple[str, ...] = (
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

    # both pipelines: how often a batch that has not drifted may be reported as drifted
    drift_significance: float = Field(0.01, gt=0, lt=1)

    # the churn pipeline
    churn_data_dir: str = Field("data", description="folder of the five CSVs, relative to include/")
    warehouse_schema: str = Field("tmp_astro", description="schema of the warehouse's tables")
    churn_artifact_name: str = "churn_classifier"
    wandb_project: str = "customer_churn"
    wandb_entity: str | None = None

    @field_validator("registered_model_name")
    @classmethod
    def _no_separator(cls, name: str) -> str:
        if set(name) & set(":/"):
            raise ValueError("MLflow accepts neither ':' nor '/' in a model's name")
        return name

    @property
    def buckets(self) -> list[str]:
        """The buckets of the possum pipeline, as feature_eng creates them."""
        return [self.data_bucket_name, self.mlflow_artifact_bucket, self.xcom_bucket]

    @property
    def raw_columns(self) -> list[str]:
        """Every column that the animals' CSV must have."""
        return [self.key_column, *self.categorical_columns, *self.numeric_columns, self.target_column]


settings = Settings()
