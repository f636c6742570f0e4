"""Objects in the S3 buckets, through the connection that the settings name. Any S3 endpoint serves."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING

from include.client_errors import BUCKET_PROBLEMS, s3_code
from include.errors import ConfigurationError, InputError, first_line
from include.servers.s3 import set_up_clients
from include.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def object_path(uri: str) -> "ObjectStoragePath":
    """The object at ``s3://bucket/key``, with the connection's credentials and endpoint.

    Raises ConfigurationError for a key that some servers or clients would change, or that makes them hang.
    """
    from airflow.sdk import ObjectStoragePath

    if uri.startswith("s3://"):
        _check_key(uri)
        _set_up_file_system()
    return ObjectStoragePath(uri, conn_id=settings.aws_conn_id)


def _check_key(uri: str) -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not all(part.strip(".") for part in key.split("/")):
        raise ConfigurationError(
            f"{uri} is not the address of an object: write s3://bucket/folder/name, without '//', '.' and '..'"
        )


def _set_up_file_system() -> None:
    """Check certificates as the connection says, which the provider's file system does not do by itself."""
    from airflow.sdk.io import attach

    server = set_up_clients()
    if server.verify is not None:
        store = attach("s3", conn_id=settings.aws_conn_id)  # cached: all paths in this process use it
        store.fs.client_kwargs["verify"] = server.verify


@contextmanager
def about_bucket(bucket: str) -> Iterator[None]:
    """Raise ConfigurationError, naming the variable, if the server says that something is wrong with the bucket."""
    try:
        yield
    except Exception as error:
        # boto3 follows a redirect without a target until the recursion limit
        code = "PermanentRedirect" if isinstance(error, RecursionError) else s3_code(error)
        if problem := BUCKET_PROBLEMS.get(code):
            raise ConfigurationError(
                f"bucket {bucket} {problem} ({first_line(error)}): choose another one in {variable_of_bucket(bucket)}, or "
                f"correct endpoint_url and region_name of connection {settings.aws_conn_id}"
            ) from error
        raise


def variable_of_bucket(bucket: str) -> str:
    """The variables that name the bucket; if none does, its address, which came from a param."""
    buckets = {name: reduce(getattr, path, settings) for name, path in settings.variables().items() if "BUCKET" in name}
    return " and ".join(name for name, value in buckets.items() if value == bucket) or f"s3://{bucket}/..."


def sha256_hex(data: bytes) -> str:
    """SHA-256 of the bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_object(uri: str, *, sha256: str | None = None) -> bytes:
    """The object's bytes; raises InputError where it is missing or is not what ``sha256`` (hex) says."""
    path = object_path(uri)
    try:
        with about_bucket(path.bucket):
            data = path.read_bytes()
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
    path = object_path(uri)
    try:
        with about_bucket(path.bucket):
            path.write_bytes(data)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{uri} cannot be written, as there is no such bucket: run the DAG that makes it (feature_eng, "
            "customer_analytics), or correct the variable that names it"
        ) from error
    except OSError as error:
        error.add_note(f"{uri} cannot be written.")
        raise
    return sha256_hex(data)
