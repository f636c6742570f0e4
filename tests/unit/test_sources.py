import pytest

from include.errors import InputError
from include.settings import INCLUDE
from include.sources import read_source


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
