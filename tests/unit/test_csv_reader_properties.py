"""What holds for any CSV; hypothesis, which draws them, is not in the Astro image."""

import csv
import io
from unittest import mock

import pytest

from include import csv_reader
from include.csv_contract import Column, Contract
from include.csv_kinds import Text, WholeNumber
from include.csv_reader import CsvReader
from include.errors import InputError

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis, which the Astro image lacks: make test")
given = hypothesis.given
st = hypothesis.strategies

CONTRACT = Contract(
    (Column("id", WholeNumber()), Column("name", Text()), Column("remark", Text())), key=("id",), row="thing"
)
HEADER = ["id", "other", "remark", "name"]
NAME = "things.csv"
ANY_TIME = hypothesis.settings(deadline=None, max_examples=200)
# what decides where fields, rows and words end more often than chance has it; no surrogates and zero bytes: not in UTF-8 texts
TEXTS = st.text(
    st.one_of(
        st.sampled_from('",\n\r \t;é\u2028\x85\ufeff'),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=8,
) | st.sampled_from(["NA", "NULL", "nan", "None", "007", "\\N", "\\.", '""', "'"])
ROWS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8)
BLOCK_BYTES = st.sampled_from([1, 3, 10, 50, 10_000])
STYLES = st.sampled_from(
    [
        {"lineterminator": "\r\n"},
        {"lineterminator": "\n", "quoting": csv.QUOTE_ALL},
        {"lineterminator": "\r", "quoting": csv.QUOTE_ALL},
    ]
)


def write(rows, style) -> str:
    content = io.StringIO(newline="")
    writer = csv.writer(content, **style)
    writer.writerow(HEADER)
    writer.writerows([number, *texts] for number, texts in enumerate(rows))
    return content.getvalue()


def read(content: bytes, block_bytes: int) -> list[tuple]:
    with mock.patch.object(csv_reader, "BLOCK_BYTES", block_bytes):
        reader = CsvReader(io.BytesIO(content), CONTRACT, NAME)
        return [tuple(row.values()) for block in reader for row in block.to_pylist()]


@ANY_TIME
@given(rows=ROWS, style=STYLES, block_bytes=BLOCK_BYTES)
def test_what_is_written_comes_back_as_it_was(rows, style, block_bytes):
    content = write(rows, style).encode()

    assert read(content, block_bytes) == [(number, name, remark) for number, (_, remark, name) in enumerate(rows)]


@ANY_TIME
@given(rows=ROWS, style=STYLES, block_bytes=BLOCK_BYTES, data=st.data())
def test_a_bad_value_is_told_with_the_line_on_which_its_row_begins(rows, style, block_bytes, data):
    bad = data.draw(st.integers(0, len(rows) - 1))
    content = write(rows, style)
    before = write(rows[:bad], style)
    quote = '"' if style.get("quoting") == csv.QUOTE_ALL else ""
    content = before + f"{quote}x" + content[len(before) + len(quote) :]  # 7 becomes x7
    line = len(io.StringIO(before, newline="").readlines()) + 1

    with pytest.raises(InputError) as caught:
        read(content.encode(), block_bytes)
    assert f"line {line} ('x{bad}')" in str(caught.value)


@ANY_TIME
@given(
    content=st.text(st.sampled_from("1,2\n\r xé\x85"), max_size=60).map(str.encode),
    bad=st.booleans(),
    block_bytes=BLOCK_BYTES,
)
def test_blocks_without_quotes_are_read_as_those_with(content, bad, block_bytes):
    content = ",".join(HEADER).encode() + b"\n" + content
    if bad:
        content = content.replace(b"x", b"\xe9")
    outcomes: list[object] = []
    for plain in (CsvReader._parse_plain, lambda *_: None):
        with mock.patch.object(CsvReader, "_parse_plain", plain):
            try:
                outcomes.append(read(content, block_bytes))
            except InputError as error:
                outcomes.append(str(error))

    assert outcomes[0] == outcomes[1]


@ANY_TIME
@given(content=st.binary(max_size=80), with_header=st.booleans(), block_bytes=BLOCK_BYTES)
def test_any_bytes_are_rows_or_an_error_that_names_the_file(content, with_header, block_bytes):
    content = ",".join(HEADER).encode() + b"\n" + content if with_header else content
    said = NAME
    try:
        read(content, block_bytes)
    except InputError as error:  # any other exception fails the test
        said = str(error)

    assert NAME in said
    said.encode()  # a log can write it
