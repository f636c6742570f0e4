"""Rows are the same when they say the same, whatever their key."""

import pandas as pd

from include.row_digests import row_digests

COLUMNS = ["key", "sex", "length"]
ROWS = pd.DataFrame({"key": [1, 2], "sex": ["m", None], "length": [36.5, float("nan")], "other": [1, 2]})


def digests(**changes) -> list[str]:
    return list(row_digests(ROWS.assign(**changes), COLUMNS))


def test_the_same_values_have_the_same_digest_whatever_their_types_index_and_other_columns():
    again = pd.DataFrame({"sex": ["m", float("nan")], "key": [1.0, 2.0], "length": ["36.5", None]}, index=[7, 3])
    assert list(row_digests(again, COLUMNS)) == digests()
    assert list(row_digests(again, COLUMNS).index) == [7, 3]


def test_another_value_in_any_column_changes_the_digest_of_its_row_only():
    for changed in ({"key": [9, 2]}, {"sex": ["f", None]}, {"length": [36.6, float("nan")]}):
        first, second = digests(**changed)
        assert first != digests()[0]
        assert second == digests()[1]


def test_values_do_not_run_into_each_other():
    one = row_digests(pd.DataFrame({"a": ["x,y"], "b": ["z"]}), ["a", "b"])
    other = row_digests(pd.DataFrame({"a": ["x"], "b": ["y,z"]}), ["a", "b"])
    assert one[0] != other[0]


def test_no_rows_have_no_digests():
    assert list(row_digests(ROWS.head(0), COLUMNS)) == []
