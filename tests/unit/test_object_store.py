"""On the local file system, which the same code reads; tests/integration/possum does it on S3."""

import pytest

from include.errors import InputError
from include.object_store import read_object, sha256_hex, write_object


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
