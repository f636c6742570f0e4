"""The data dictionary of the animals' table, and the only way in for a CSV: whatever breaks it stops the run at once.

Source: the table ``possum`` of R's DAAG package. Lindenmayer, Viggers, Cunningham and Donnelly (1995), Morphological
variation among columns of the mountain brushtail possum, Australian Journal of Zoology 43: 449-458.
"""

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pandera.pandas as pa

from include.errors import ConfigurationError, InputError
from include.object_store import sha256_hex
from include.settings import settings

log = logging.getLogger(__name__)


class Measurement(NamedTuple):
    """What a number column measures, in which unit, and between which limits a possum is plausible."""

    unit: str
    minimum: float
    maximum: float
    meaning: str


# Wide enough for any adult brushtail possum, narrow enough that mm in place of cm, or the reverse, fall outside.
MEASUREMENTS = {
    "age": Measurement("years", 0, 20, "age"),
    "hdlngth": Measurement("mm", 50, 140, "head length"),
    "skullw": Measurement("mm", 30, 100, "skull width"),
    "totlngth": Measurement("cm", 45, 140, "total length, tail included"),
    "taill": Measurement("cm", 15, 70, "tail length"),
    "footlgth": Measurement("mm", 35, 120, "foot length"),
    "earconch": Measurement("mm", 25, 90, "length of the ear conch"),
    "eye": Measurement("mm", 7, 30, "distance between the corners of the right eye"),
    "chest": Measurement("cm", 12, 50, "chest girth"),
    "belly": Measurement("cm", 14, 60, "belly girth"),
}

CATEGORIES: dict[str, tuple[int, ...] | tuple[str, ...]] = {
    "site": (1, 2, 3, 4, 5, 6, 7),  # Cambarville, Bellbird, Whian Whian, Byrangery, Conondale, Allyn River, Bulburin
    "Pop": ("Vic", "other"),
    "sex": ("f", "m"),
}

# More animals to train on than the model's 20 features, and six for each of five folds; features.split checks it.
MINIMUM_TRAINING_ROWS = 30
# Of so many complete animals, the holdout gets the 10 that the gate needs with a probability of 95 %.
ENOUGH_ANIMALS = 60

# How many lines a message lists for one kind of defect before it only counts the rest.
LISTED = 5

# Beyond it a float no longer holds every whole number, and two keys would become one.
LARGEST_KEY = 2**53 - 1

# An empty field, and what R and pandas write for a missing value; compared in upper case.
MISSING = ("", "NA", "NAN")

NOT_A_NUMBER = "not a number (write digits with a decimal point, or leave the field empty if the value is unknown)"
NOT_WHOLE = "not a whole number"
NO_VALUE = "missing (every animal needs one: fill it in or delete the line)"
NOT_UNIQUE = "used more than once (give every animal a number of its own, or delete the copy)"


class Defect(NamedTuple):
    """One bad field: its column, what is wrong with it and how to mend it, its line in the file, its text."""

    column: str
    problem: str
    line: int
    value: str | None


def build_schema(*, with_target: bool = True) -> pa.DataFrameSchema:
    """Build the pandera schema of the parsed table, one column for each that the settings name.

    Args:
        with_target: whether the target is among the columns.

    Returns:
        The schema; the key is a unique whole number, categories are known ones, measurements are floats within their
        limits or missing.

    Raises:
        ConfigurationError: if the settings name a column that this module does not describe.

    """
    undescribed = [column for column in settings.possum.categorical_columns if column not in CATEGORIES]
    undescribed += [
        column
        for column in (*settings.possum.numeric_columns, settings.possum.target_column)
        if column not in MEASUREMENTS
    ]
    if undescribed:
        raise ConfigurationError(
            f"The settings name the columns {undescribed}, which include/possum/schema.py does not describe. Describe "
            f"their values there, or set POSSUM_CATEGORICAL_COLUMNS to some of {list(CATEGORIES)} and POSSUM_NUMERIC_COLUMNS and "
            f"POSSUM_TARGET_COLUMN to some of {list(MEASUREMENTS)}."
        )
    columns = {settings.possum.key_column: _describe_key()}
    columns |= {column: _describe_category(column) for column in settings.possum.categorical_columns}
    columns |= {column: _describe_measurement(column) for column in settings.possum.numeric_columns}
    if with_target:
        columns[settings.possum.target_column] = _describe_measurement(settings.possum.target_column)
    return pa.DataFrameSchema(columns)


def _describe_key() -> pa.Column:
    limits = pa.Check.in_range(0, LARGEST_KEY, error=f"outside 0 to {LARGEST_KEY}")
    return pa.Column("Int64", limits, unique=True, description="the animal's number")


def _describe_category(column: str) -> pa.Column:
    known = CATEGORIES[column]
    listed = ", ".join(map(str, known))
    dtype = "Int64" if isinstance(known[0], int) else "str"
    return pa.Column(dtype, pa.Check.isin(known, error=f"unknown category (write one of {listed})"))


def _describe_measurement(column: str) -> pa.Column:
    unit, minimum, maximum, meaning = MEASUREMENTS[column]
    limits = pa.Check.in_range(
        minimum,
        maximum,
        error=f"outside {minimum} to {maximum} {unit} (is the unit {unit}? correct it, or leave the field empty)",
    )
    return pa.Column("float64", limits, nullable=True, description=f"{meaning} [{unit}]")


def read_animals(source: Path | str | bytes, name: str, *, with_target: bool = True) -> pd.DataFrame:
    """Parse the animals' CSV and check it against the schema.

    The file is comma-separated UTF-8 with a header. A missing measurement is an empty field, NA or NaN. Columns come in
    any order; columns beyond those that the settings name are ignored, so that a table may carry notes.

    Args:
        source: the file's path, or its content.
        name: what messages call the file.
        with_target: whether tail lengths are needed. If not, the target's column may be absent, but if it is there it
            is checked and returned like any other.

    Returns:
        One row per animal in the file's order, columns in the settings' order: key and site int64, Pop and sex str,
        measurements float64 in the units of ``MEASUREMENTS`` with NaN where missing.

    Raises:
        InputError: if anything in the file is not as described; it lists the defects by column and line.
        ConfigurationError: if the settings name a column that the data dictionary lacks.

    """
    content = _read_bytes(source, name)
    header_line, header, rows = _parse_csv(_decode(content, name), name)
    required = [
        column for column in settings.possum.raw_columns if with_target or column != settings.possum.target_column
    ]
    _check_header(header, required, f"{name}: line {header_line}, the header,")
    if not rows:
        raise InputError(f"{name}: line {header_line}, the header, is all there is. Add a line for each animal.")
    wanted = [column for column in settings.possum.raw_columns if column in header]
    schema = build_schema(with_target=settings.possum.target_column in wanted)

    # The index is the line in the file until the checks are through, so that every message can tell it.
    text = pd.DataFrame(list(rows.values()), columns=header, index=list(rows), dtype=object)[wanted]
    text = text.where(~text.apply(lambda column: column.str.upper().isin(MISSING)), None)
    animals, defects = _convert_columns(text)
    defects += _find_violations(schema, animals, text)
    if defects:
        raise InputError(_describe_defects(defects, name))
    if with_target and animals[settings.possum.target_column].isna().all():
        raise InputError(
            f"{name}: column '{settings.possum.target_column}' has no value in any of lines {text.index[0]} to "
            f"{text.index[-1]}. A model cannot be trained without it: fill it in."
        )
    log.info("%s: %d animals, SHA-256 %s, as it should be", name, len(animals), sha256_hex(content))
    whole = [column for column in wanted if _is_whole(column)]
    return animals.astype(dict.fromkeys(whole, "int64")).reset_index(drop=True)


def complete_rows(animals: pd.DataFrame, *, with_target: bool = True) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the animals that have a value in every column of the model.

    Args:
        animals: a table as read_animals returns it.
        with_target: True for training, which needs the target and MINIMUM_TRAINING_ROWS animals; False for predicting,
            which needs neither.

    Returns:
        The complete rows in the same order with a new index, and how many values each column with gaps is missing.

    Raises:
        InputError: if too few rows are left.

    """
    needed = [
        column for column in settings.possum.raw_columns if with_target or column != settings.possum.target_column
    ]
    missing = {str(column): int(count) for column, count in animals[needed].isna().sum().items() if count}
    complete = animals.dropna(subset=needed).reset_index(drop=True)
    minimum = MINIMUM_TRAINING_ROWS if with_target else 1
    if len(complete) < minimum:
        purpose = "training" if with_target else "predicting"
        with_holdout = f", about {ENOUGH_ANIMALS} with those held out" if with_target else ""
        counts = ", ".join(f"{column} in {count}" for column, count in missing.items()) or "nowhere"
        raise InputError(
            f"{len(complete)} of {len(animals)} animals have a value in every column of the model, {purpose} needs at "
            f"least {minimum}{with_holdout}. Values are missing: {counts}. Fill them in or add animals."
        )
    return complete, missing


def _read_bytes(source: Path | str | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{name}: there is no file at {source}. Put it there, or set POSSUM_FILE_PATH.") from error


def _decode(content: bytes, name: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: line 1 begins a UTF-16 text. Save the file as UTF-8.")
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise InputError(f"{name}: line {line} has a zero byte, so this is no CSV but a binary file. Export it as CSV.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name}: line {line} has the byte 0x{content[error.start]:02x}, which is not UTF-8. "
            "Save the file as UTF-8."
        ) from error


def _parse_csv(text: str, name: str) -> tuple[int, list[str], dict[int, list[str]]]:
    """Split the text into the header, with its line, and each later line's fields by line; blank lines are left out."""
    start = text.lstrip()[:1]
    if not start:
        raise InputError(f"{name}: the file is empty. It needs a header line and a line for each animal.")
    if start == "<":
        line = text[: text.index(start)].count("\n") + 1
        raise InputError(
            f"{name}: line {line} begins with '<', so this is an HTML or XML page, not a CSV. Download the raw file."
        )
    lines: dict[int, list[str]] = {}
    # strict: a quote that is never closed would otherwise swallow the rest of the file without a word
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    first = 1
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if stripped not in ([], [""]):
                lines[first] = stripped
            first = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name}: line {first} cannot be read as CSV: {error}. Check its quotes.") from error
    header_line, *numbers = lines
    header = lines.pop(header_line)
    ragged = [line for line in numbers if len(lines[line]) != len(header)]
    if ragged:
        listed = _list_some(f"line {line} ({len(lines[line])} fields)" for line in ragged)
        raise InputError(
            f"{name}: not as many fields as the header's {len(header)} columns ({', '.join(header)}) in {listed}. "
            "Look for a comma that is missing or too many; write decimals with a point."
        )
    return header_line, header, lines


def _check_header(header: Sequence[str], required: Iterable[str], where: str) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        found = _list_some((repr(_shorten(column)) for column in header), limit=20)
        separators = [label for sign, label in {";": "semicolons", "\t": "tabs"}.items() if sign in "".join(header)]
        hint = (
            f"It seems to be separated by {separators[0]}: export it with commas" if separators else "Add or rename it"
        )
        raise InputError(
            f"{where} lacks {', '.join(map(repr, missing))}; it has {found}. {hint} (upper and lower case count)."
        )
    repeated = sorted({column for column in header if header.count(column) > 1} & set(settings.possum.raw_columns))
    if repeated:
        raise InputError(f"{where} has {', '.join(map(repr, repeated))} more than once. Keep the right one.")


def _is_whole(column: str) -> bool:
    return column == settings.possum.key_column or isinstance(CATEGORIES.get(column, ("",))[0], int)


def _convert_columns(text: pd.DataFrame) -> tuple[pd.DataFrame, list[Defect]]:
    """Give each column its type; what cannot be converted becomes a defect and a missing value."""
    converted: dict[str, pd.Series] = {}
    defects: list[Defect] = []
    for column, fields in text.items():
        name = str(column)
        if name in CATEGORIES and not _is_whole(name):
            converted[name] = fields
            continue
        numbers = pd.to_numeric(fields, errors="coerce").astype("float64")
        problem = NOT_A_NUMBER
        if _is_whole(name):
            numbers = numbers.where((numbers % 1 == 0) & (numbers.abs() <= LARGEST_KEY))
            problem = NOT_WHOLE
        bad = fields[fields.notna() & numbers.isna()]
        defects += [Defect(name, problem, int(line), value) for line, value in bad.items()]  # type: ignore[call-overload]
        converted[name] = numbers.astype("Int64") if _is_whole(name) else numbers
    return pd.DataFrame(converted, index=text.index), defects


def _find_violations(schema: pa.DataFrameSchema, animals: pd.DataFrame, text: pd.DataFrame) -> list[Defect]:
    """Check the converted columns, all of them before the first complaint, and quote the file's own text."""
    try:
        schema.validate(animals, lazy=True)
    except pa.errors.SchemaErrors as error:
        problems = {"not_nullable": NO_VALUE, "field_uniqueness": NOT_UNIQUE}
        cases, fields = error.failure_cases, text.to_dict()
        return [
            Defect(column, problems.get(check, check), int(line), fields[column][line])
            for column, check, line in zip(cases["column"], cases["check"], cases["index"], strict=True)
            # a field that could not be converted looks missing here, but is a defect already
            if check != "not_nullable" or fields[column][line] is None
        ]
    return []


def _describe_defects(defects: Iterable[Defect], name: str) -> str:
    """Put all defects into one message, a line for each column and problem, columns in the settings' order."""
    groups: dict[tuple[int, str, str], list[Defect]] = {}
    for defect in defects:
        groups.setdefault((settings.possum.raw_columns.index(defect.column), defect.column, defect.problem), []).append(
            defect
        )
    lines = [
        f"- column '{column}': {problem}: "
        + _list_some(
            f"line {defect.line}" + ("" if defect.value is None else f" ({_shorten(defect.value)!r})")
            for defect in sorted(group, key=lambda defect: defect.line)
        )
        for (_, column, problem), group in sorted(groups.items())
    ]
    return "\n".join([f"{name} cannot be used; correct it and run again:", *lines])


def _list_some(items: Iterable[str], limit: int = LISTED) -> str:
    listed = list(items)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def _shorten(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
