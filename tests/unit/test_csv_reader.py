"""What the two pipelines' CSVs have in common; what each of them must hold is in test_churn_schema and test_possum_schema."""

import hashlib
import io
import tracemalloc

import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from include import csv_reader
from include.csv_contract import Column, Contract, Rule
from include.csv_kinds import Category, Date, Number, Text, WholeNumber
from include.csv_reader import CsvReader, open_csv
from include.errors import InputError

CONTRACT = Contract(
    (
        Column("id", WholeNumber()),
        Column("name", Text()),
        Column("size", Number(0, 10, "cm"), optional=True, hint="leave it empty"),
        Column("colour", Category(("red", "blue")), optional=True, may_be_absent=True),
    ),
    key=("id",),
    row="thing",
    missing=("", "NA"),
)


def read(content: str | bytes, contract: Contract = CONTRACT) -> list[dict]:
    stream = io.BytesIO(content if isinstance(content, bytes) else content.encode())
    return [row for block in CsvReader(stream, contract, "things.csv") for row in block.to_pylist()]


def message_for(content: str | bytes, contract: Contract = CONTRACT) -> str:
    with pytest.raises(InputError) as caught:
        read(content, contract)
    return str(caught.value)


def test_blocks_have_the_contracts_columns_and_types_in_its_order():
    (block,) = CsvReader(io.BytesIO(b"size,name,note,id\n1.5,x,y,7\nNA,,,8\n"), CONTRACT, "things.csv")

    assert block.schema == pa.schema([("id", pa.int64()), ("name", pa.string()), ("size", pa.float64())])
    assert block.to_pylist() == [{"id": 7, "name": "x", "size": 1.5}, {"id": 8, "name": "", "size": None}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("block_bytes", [1, 2, 7, 4096])
def test_lines_end_as_on_any_system_and_are_counted(end, last, block_bytes, monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", block_bytes)
    lines = ["id,name,size", "1,x,1", '2,"a\rb\nc\r\nd",2', "", "3,y,3", "oops,z,4"]  # the last one is the 9th line

    assert "line 9 ('oops')" in message_for(end.join(lines) + end * last)
    rows = read(end.join(lines[:-1]) + end * last)
    assert [row["name"] for row in rows] == ["x", "a\rb\nc\r\nd", "y"]


def test_line_break_in_a_quoted_field_is_kept_where_two_blocks_meet(monkeypatch):
    content = 'id,name,size\n1,"' + "a\r\n" * 50 + '",1\n2,b,2\n'
    for block_bytes in range(1, 60):
        monkeypatch.setattr(csv_reader, "BLOCK_BYTES", block_bytes)
        assert [row["name"] for row in read(content)] == ["a\r\n" * 50, "b"]


@pytest.mark.parametrize(
    "header",
    ["\ufeffid,name,size", " id ,\tname, size ", '"id","name","size"', "\n\n  \nid,name,size", '\ufeff"id",name,size'],
)
def test_header_is_read_without_byte_order_mark_blanks_and_quotes(header):
    assert read(f"{header}\n1,x,2\n") == [{"id": 1, "name": "x", "size": 2.0}]


@pytest.mark.parametrize(
    ("sign", "words"), [(";", "';' (semicolons)"), ("\t", "'\\t' (tabs)"), ("|", "'|' (vertical bars)")]
)
def test_other_separators_are_named(sign, words):
    message = message_for("id,name,size\n1,x,2\n".replace(",", sign))

    assert f"The separator seems to be {words}" in message
    assert "save the file with commas" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_refused_with_what_to_do(encoding):
    message = message_for("id,name,size\n1,x,2\n".encode(encoding))

    assert "UTF-16" in message
    assert "CSV UTF-8" in message


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman"])
def test_other_encodings_are_refused_with_column_line_and_byte(encoding):
    byte = "é".encode(encoding)[0]

    message = message_for("id,name,size\n1,x,2\n2,Ren\u00e9,3\n".encode(encoding))

    assert f"column 'name': not UTF-8 (save the file as CSV UTF-8): line 3 ('Ren\\x{byte:02x}')" in message


def test_header_of_another_encoding_does_no_harm_and_is_shown_where_a_column_is_missing():
    assert read("id,name,size,größe\n1,x,2,3\n".encode("latin-1"))[0]["id"] == 1
    assert "'gr\\xf6\\xdfe'" in message_for("id,name,größe\n1,x,2\n".encode("latin-1"))


@pytest.mark.parametrize("place", [3, 70_000])
def test_zero_byte_is_refused_wherever_it_is(place):
    lines = ["id,note,name,size", *(f"{number},,x,1" for number in range(2, 80_000))]
    lines[place - 1] = f"{place},,Ann\0a,1"
    assert f"column 'name': has a zero byte, which no text has (export the file again): line {place} ('Ann\\x00a')" in (
        message_for("\n".join(lines))
    )
    lines[place - 1] = f"{place},\0,Anna,1"
    assert f"column 'note': has a zero byte, which no text has (export the file again): line {place} (" in message_for(
        "\n".join(lines)
    )


def test_all_defects_are_told_at_once_by_column():
    content = "id,name,size,colour\nx,a,1,red\n2,b,11,green\n2,c,big,\n3,d\n4,é,NULL,blue,\n5,\xe9,1,red\n5,f,,\n"

    message = message_for(content.encode().replace(b"5,\xc3\xa9", b"5,\xe9"))

    assert message.splitlines() == [
        "things.csv cannot be used; correct it and run again:",
        "- rows: not as many fields as the header's 4 columns ('id', 'name', 'size', 'colour'): look for a comma that is missing "
        "or too many; write decimals with a point: line 5 (2 fields), line 6 (5 fields)",
        "- column 'id': not a whole number (write digits only): line 2 ('x')",
        "- column 'id': used more than once (give every thing one of its own, or delete the copy): line 3 ('2'), line 4 ('2'), "
        "line 7 ('5'), line 8 ('5')",
        "- column 'name': not UTF-8 (save the file as CSV UTF-8): line 7 ('\\xe9')",
        "- column 'size': not a number of cm: write digits with a decimal point (leave it empty): line 4 ('big')",
        "- column 'size': outside 0 to 10 cm: is the unit cm? (leave it empty): line 3 ('11')",
        "- column 'colour': unknown category (write one of red, blue): line 3 ('green')",
    ]


def test_missing_value_is_told_with_what_is_needed():
    assert (
        "missing: every thing needs a whole number (fill it in or delete the line): line 3 (empty), line 4 ('NA')"
        in (message_for("id,name,size\n1,x,2\n,y,3\nNA,z,4\n"))
    )


def test_control_characters_are_kept_in_a_text_and_escaped_in_a_message():
    assert read("id,name,size\n1,\x01\x1b\t\x7f,2\n")[0]["name"] == "\x01\x1b\t\x7f"
    assert "('\\x1b[31m')" in message_for("id,name,size\n\x1b[31m,x,2\n")


@pytest.mark.parametrize("quoted", ['5" pipe', 'a"b"c', 'x""'])
def test_quote_within_a_field_is_a_character(quoted):
    assert read(f"id,name,size\n1,{quoted},2\n2,y,3\n")[0]["name"] == quoted


@pytest.mark.parametrize(
    ("line", "reason"),
    [('2,"y,3', "line 3 has a quote that is not closed"), ('2,"y"x,3', "line 3 cannot be read as CSV")],
)
def test_quote_that_is_not_closed_is_told_with_the_line_on_which_its_row_begins(line, reason):
    assert reason in message_for(f"id,name,size\n1,x,2\n{line}\n3,z,4\n4,z,5\n")


def test_quote_that_is_not_closed_does_not_take_the_whole_file_into_memory(monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 4096)
    content = ('id,name,size\n1,x,2\n2,"y,3\n' + "3,z,4\n" * 10**6).encode()
    previous = csv_reader.csv.field_size_limit(10_000)
    try:
        assert "line 3 cannot be read as CSV: field larger than field limit" in message_for(content)
    finally:
        csv_reader.csv.field_size_limit(previous)


def test_line_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 1024)
    monkeypatch.setattr(csv_reader, "LONGEST_LINE", 4096)

    assert "has a line of more than 4,096 bytes" in message_for(b"[" + b"1," * 10_000 + b"]")


def test_keys_may_come_in_any_order_and_are_compared_across_blocks(monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 64)
    rows = [f"{number * 7919 % 1000},x," for number in range(1000)]

    assert len(read("\n".join(["id,name,size", *rows]))) == 1000
    rows.append("0,x,")
    assert "line 2 ('0'), line 1002 ('0')" in message_for("\n".join(["id,name,size", *rows]))


def test_long_keys_that_differ_are_not_taken_for_one_where_another_is_bad():
    keys = [2**53, 2**53 + 1, 2**53 + 2, "x", 2**53 + 2]

    message = message_for("id,name,size\n" + "".join(f"{key},,\n" for key in keys))

    assert f"line 4 ('{2**53 + 2}'), line 6 ('{2**53 + 2}')" in message
    assert str(2**53 + 1) not in message


def test_rules_look_at_rows_and_at_all_keys():
    contract = Contract(
        (Column("day", Date()), Column("until", Date(), optional=True)),
        key=("day",),
        row="day",
        rules=(Rule("until", "before the day", lambda rows: pa.compute.less(rows["until"], rows["day"])),),
        key_rules=(Rule("day", "not first", lambda keys: keys["day"].to_numpy() > keys["day"].to_numpy().min()),),
    )
    message = message_for("day,until\n2018-01-02,2018-01-01\n2018-01-03,\n", contract)

    assert message.splitlines()[1:] == ["- column 'until': before the day: line 2 ('2018-01-01')"]
    assert "not first: line 3 ('2018-01-03')" in message_for("day,until\n2018-01-02,\n2018-01-03,\n", contract)


def test_nothing_is_yielded_behind_a_defect_but_all_is_checked(monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 16)
    reader = CsvReader(io.BytesIO(b"id,name,size\n1,x,2\n2,y,3\nx,z,4\n4,x,5\ny,x,6\n"), CONTRACT, "things.csv")
    got: list[int] = []

    with pytest.raises(InputError, match=r"line 4 \('x'\), line 6 \('y'\)"):
        got.extend(row["id"] for block in reader for row in block.to_pylist())
    assert got == [1, 2][: len(got)]
    assert len(got) <= 2


def test_file_is_read_once_and_its_digest_told():
    class Once(io.BytesIO):
        def seek(self, *_):
            raise AssertionError

    content = b"id,name,size\n" + b"1,x,2\n"
    reader = CsvReader(Once(content), CONTRACT, "things.csv")

    assert (sum(block.num_rows for block in reader), reader.rows) == (1, 1)
    assert reader.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("quote", ["", '"'])
def test_memory_does_not_grow_with_the_file(quote):
    line = f"{{}},{quote}some name{quote},1.5\n"

    class Endless(io.RawIOBase):
        """A file that is made while it is read."""

        def __init__(self, rows):
            self.rows, self.next = rows, 0

        def read(self, size=-1):
            if not self.next:
                self.next = 1
                return b"id,name,size\n"
            last = min(self.next + size // 24, self.rows)
            content = "".join(line.format(number) for number in range(self.next, last))
            self.next = last
            return content.encode()

    def peak(rows: int) -> int:
        tracemalloc.start()
        try:
            for _ in CsvReader(Endless(rows), CONTRACT, "things.csv"):  # type: ignore[arg-type]
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(300_000) < 1.2 * peak(150_000)


def test_open_csv_takes_a_path_a_text_a_content_and_an_open_file(tmp_path):
    path = tmp_path / "things.csv"
    path.write_bytes(b"id")
    stream = io.BytesIO(b"id")
    for source in (path, str(path), b"id", stream):
        with open_csv(source, "things.csv") as opened:
            assert opened.read() == b"id"
    assert not stream.closed
