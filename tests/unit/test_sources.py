import errno
from pathlib import Path

import pytest
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

from include.errors import InputError
from include.settings import INCLUDE
from include.sources import CSV_SOURCE, FOLDER_SOURCE, open_source, read_source


def test_file_in_include_is_read_and_named():
    assert read_source("possum.csv") == ((INCLUDE / "possum.csv").read_bytes(), "include/possum.csv")


@pytest.mark.parametrize("source", ["../Makefile", "/etc/passwd", "data/../../Makefile"])
def test_file_outside_of_include_is_refused(source):
    with pytest.raises(InputError, match="lies outside of include/"):
        read_source(source)


def test_link_that_leads_outside_is_refused(tmp_path):
    outside = tmp_path / "secret.csv"
    outside.write_text("case\n1\n")
    link = INCLUDE / "plots" / "link-of-a-test.csv"
    link.symlink_to(outside)
    try:
        with pytest.raises(InputError, match="lies outside of include/"):
            read_source("plots/link-of-a-test.csv")
    finally:
        link.unlink()


@pytest.mark.parametrize(("source", "reason"), [("absent.csv", "No such file"), ("plots", "Is a directory")])
def test_file_that_cannot_be_read_is_named_with_the_reason(source, reason):
    with pytest.raises(InputError, match=f"include/{source} cannot be read .{reason}"):
        read_source(source)


def test_file_is_opened_and_read_as_it_is_used():
    with open_source("possum.csv") as (file, name):
        assert file.read(4) == (INCLUDE / "possum.csv").read_bytes()[:4]
        assert name == "include/possum.csv"
    assert file.closed


PATHS = ["data", "my shop/2024", "März", "a/b.c/d", "date=2024-01-01", "it's, (the) one+1", "...", ".hidden"]
BAD_PATHS = [
    "",
    "/",
    "/data",
    "a//b",
    "a/../b",
    "..",
    "./a",
    " a",
    "a ",
    "a /b",
    "a/ b",
    "a\\b",
    "a?b",
    "a#b",
    "a*b",
    "a\nb",
    "a\n",
]


def accepts(pattern: str, value: str) -> bool:
    """What Airflow says of a DAG param when a run is triggered."""
    try:
        return Param("x", type="string", pattern=pattern).resolve(value) == value
    except ParamValidationError:
        return False


@pytest.mark.parametrize("path", PATHS)
def test_params_accept_files_and_folders_in_include_and_in_buckets(path):
    for address in (path, f"s3://bucket/{path}"):
        assert accepts(CSV_SOURCE, f"{address}/orders.csv")
        assert accepts(FOLDER_SOURCE, address)
        assert accepts(FOLDER_SOURCE, f"{address}/")


@pytest.mark.parametrize("path", BAD_PATHS)
def test_params_refuse_what_would_make_a_key_of_no_object(path):
    for address in (path, f"s3://bucket//{path}", f"s3://bucket/{path}/x" if path else "s3:///x"):
        assert not accepts(CSV_SOURCE, address)
        assert not accepts(FOLDER_SOURCE, address)


@pytest.mark.parametrize(
    "address", ["s3://bucket", "s3://bucket/", "s3://", "s3:/bucket/x", "https://host/x.csv", "data/"]
)
def test_param_for_a_file_refuses_a_bucket_and_other_addresses(address):
    assert not accepts(CSV_SOURCE, address)
    assert accepts(FOLDER_SOURCE, address) == (address in ("s3://bucket", "s3://bucket/", "data/"))


@pytest.mark.parametrize(
    "address", ["s3://bucket//x.csv", "s3://bucket/", "s3://bucket/a/../x.csv", "s3://bucket/a?b.csv"]
)
def test_address_that_came_past_the_param_is_refused_with_the_rule(address):
    with pytest.raises(InputError, match="no address of an object: write s3://bucket/key, without '//'"):
        read_source(address)


def test_name_that_no_file_can_have_is_refused():
    with pytest.raises(InputError, match="is no name of a file"):
        read_source("possum\0.csv")


def test_disk_that_fails_is_no_bad_input(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_source("possum.csv")
