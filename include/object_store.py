"""Objects in the S3 buckets, through the connection that the settings name. Any S3 endpoint serves."""

import hashlib
from typing import TYPE_CHECKING

from include.errors import ConfigurationError, InputError
from include.settings import settings

if TYPE_CHECKING:
    from airflow.io.path import ObjectStoragePath


def object_path(uri: str) -> "ObjectStoragePath":
    """The object at ``s3://bucket/key``, with the connection's credentials and endpoint."""
    from airflow.io.path import ObjectStoragePath

    if uri.startswith("s3://"):
        require_connection()
    return ObjectStoragePath(uri, conn_id=settings.aws_conn_id)


def require_connection() -> None:
    """Raise AirflowNotFoundException where the connection is missing: Amazon's hook would go to AWS itself, as anybody."""
    from airflow.hooks.base import BaseHook

    BaseHook.get_connection(settings.aws_conn_id)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of the bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_object(uri: str, *, sha256: str | None = None) -> bytes:
    """The object's bytes; raises InputError where it is missing or is not what ``sha256`` (hex) says."""
    try:
        data = object_path(uri).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{uri} does not exist: run the DAG that writes it again") from error
    if sha256 and sha256_hex(data) != sha256:
        raise InputError(
            f"{uri} has changed since it was handed over (SHA-256 {sha256_hex(data)}, expected {sha256}): "
            "run the DAG that writes it again"
        )
    return data


def write_object(uri: str, data: bytes) -> str:
    """Write the object in one request, so that readers see all of it or nothing, and return its SHA-256 (hex)."""
    try:
        object_path(uri).write_bytes(data)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{uri} cannot be written, as there is no such bucket: run the DAG that makes it (feature_eng, "
            "customer_analytics), or correct the variable that names it"
        ) from error
    except OSError as error:
        error.add_note(f"{uri} cannot be written.")
        raise
    return sha256_hex(data)
