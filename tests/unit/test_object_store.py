"""On the local file system, which the same code reads; tests/integration/possum does it on S3."""

import pytest

from include.errors import ConfigurationError, InputError
from include.object_store import object_path, read_object, sha256_hex, variable_of_bucket, write_object


@pytest.fixture
def uri(tmp_path) -> str:
    return f"file://{tmp_path}/object"


def test_what_is_written_is_read_back_and_has_the_digest_that_was_told(uri):
    digest = write_object(uri, b"possum")
    assert digest == sha256_hex(b"possum") == "0ddf8cbefa6ed1a5d0c71ea559734bcd2c6261bd3ae34cfba7a007859cb366e5"
    assert read_object(uri, sha256=digest) == b"possum"


def test_object_that_has_changed_is_refused_with_both_digests(uri):
    digest = write_object(uri, b"possum")
    changed = write_object(uri, b"opossum")
    with pytest.raises(InputError, match=f"{uri} has changed .*{changed}, expected {digest}"):
        read_object(uri, sha256=digest)


def test_missing_object_is_named_with_what_to_do(uri):
    with pytest.raises(InputError, match=f"{uri} does not exist: run the DAG that writes it again"):
        read_object(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://data/features/r/s3://data/x.csv",
        "s3://data//x.csv",
        "s3://data/a//x.csv",
        "s3://data/a/",
        "s3://data/../x.csv",
        "s3://data/a/./x.csv",
        "s3://data/",
        "s3://data",
        "s3:///x.csv",
    ],
)
@pytest.mark.parametrize("use", [object_path, read_object, lambda uri: write_object(uri, b"1")])
def test_key_that_servers_take_for_another_one_is_refused_before_any_is_asked(monkeypatch, uri, use):
    """The stack's own server never answers to the first, and there is none here at all."""
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT", raising=False)
    with pytest.raises(ConfigurationError, match="is not the address of an object: write s3://bucket/folder/name"):
        use(uri)


def test_variable_that_names_a_bucket_is_found():
    assert variable_of_bucket("data") == "DATA_BUCKET_NAME"
    assert variable_of_bucket("churnmodels") == "CHURN_MODEL_BUCKET"
    assert variable_of_bucket("of-a-param") == "s3://of-a-param/..."
