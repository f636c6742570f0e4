"""What is noted of a model, as JSON in the object store: what it was made from, and how it became the champion."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from include.errors import InputError
from include.object_store import read_object, write_object
from include.settings import settings
from include.wandb_tracking.models import ModelReference

Record = TypeVar("Record", bound=BaseModel)


def churn_folder() -> str:
    """Where everything about the churn models lies."""
    return f"s3://{settings.churn.model_bucket}/{settings.churn.artifact_name}"


class StoredObject(BaseModel):
    """An object's address and the SHA-256 (hex) of what was written there."""

    model_config = ConfigDict(frozen=True)

    uri: str = Field(pattern="^s3://[^/]+/.+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @classmethod
    def write(cls, uri: str, data: bytes) -> "StoredObject":
        """Write an object."""
        return cls(uri=uri, sha256=write_object(uri, data))

    def read(self) -> bytes:
        """The very bytes; raises InputError where they are missing or others."""
        return read_object(self.uri, sha256=self.sha256)


class TrainedModel(BaseModel):
    """A model and what belongs to it, about.json in its folder; a folder without that file is not complete."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: StoredObject
    columns: list[str]
    training_customers: StoredObject
    """Parquet, which rows the model was trained on: customer_id, and row_sha256 over the key and ``columns``. Records of
    earlier versions have customer_id only."""
    drift_reference: StoredObject
    """Parquet, the feature columns of training rows: what batches to be scored are compared with."""
    dag_run: str
    digests: dict[str, str]
    config: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    plots: dict[str, StoredObject] = {}

    @property
    def folder(self) -> str:
        """Where model and all else about it lies."""
        return self.model.uri.rpartition("/")[0]


class Champion(BaseModel):
    """The model that scores, and how it came to that; champion.json."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    trained: TrainedModel
    reference: ModelReference
    server: str | None
    """W&B server that has the artifact; None where it was published offline."""
    wandb_run: str
    """Link of the run that published it, or folder when offline."""
    outcome: str
    reason: str
    figures: dict[str, float] = {}
    champion_before: str = "unknown"
    """The version in whose place it came, "none", or why that one could not be used; "unknown" in earlier records."""
    dag_run: str
    """The DAG run that made it the champion."""

    @model_validator(mode="after")
    def _is_of_one_model(self) -> "Champion":
        """Else its version would name another model than the one that scores."""
        if self.reference.sha256 != self.trained.model.sha256:
            raise ValueError("reference and trained.model are of different models")
        return self

    @property
    def version(self) -> str:
        """Its name for people: W&B's version, or the digest where there is none."""
        known = f":{self.reference.version}" if self.reference.version else f"@sha256:{self.reference.sha256[:12]}"
        return f"{self.reference.name}{known}"


class HandOver(BaseModel):
    """Who scores the customers of a DAG run, and whether those probabilities are worth anything."""

    model_config = ConfigDict(frozen=True)

    champion: Champion | None
    """None where its record cannot be read."""
    trained_online: bool | None = None
    """Whether this DAG run has trained a model online or offline; None where it has trained none, and so has no run in W&B."""
    better_than_baseline: bool | None = None
    """On the labelled customers that this DAG run holds out; None where there are none, or the champion cannot be used."""
    doubt: str | None = None
    """Why nobody should be scored by it, as a sentence without a full stop; None where nothing speaks against it."""

    def dump(self) -> dict[str, Any]:
        """What later tasks need of it, small enough for Airflow's database."""
        return self.model_dump(exclude={"champion": {"trained": {"config", "metrics", "plots"}}})


def parse_record(kind: type[Record], content: bytes | str, name: str) -> Record:
    """The record that is written as JSON; raises InputError where it is none."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise InputError(f"{name} is not what this project has written: {where} {problem['msg']}") from error
