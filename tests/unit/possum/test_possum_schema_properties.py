"""What holds for any file of animals; hypothesis, which draws them, is not in the Astro image."""

import contextlib
import io

import pandas as pd
import pytest

from include.errors import InputError
from include.possum.schema import read_animals
from include.settings import INCLUDE

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis, which the Astro image lacks: make test")
given = hypothesis.given
st = hypothesis.strategies

SHIPPED = INCLUDE / "possum.csv"
HEADER = SHIPPED.read_text().splitlines()[0]
NAME = "somewhere/animals.csv"
ANY_TIME = hypothesis.settings(deadline=None)  # how long one example takes depends on what else the machine does


@ANY_TIME
@given(st.binary(max_size=200))
def test_read_animals_answers_any_bytes_with_input_error(content):
    with pytest.raises(InputError, match=NAME):
        read_animals(content, NAME)


@ANY_TIME
@given(line=st.integers(2, 105), column=st.sampled_from(HEADER.split(",")), value=st.text(max_size=12))
def test_read_animals_answers_any_field_with_rows_or_input_error(line, column, value):
    frame = pd.read_csv(io.BytesIO(SHIPPED.read_bytes()), dtype=str, keep_default_na=False)
    frame.loc[line - 2, column] = value
    content = frame.to_csv(index=False).encode()

    # any other exception fails the test
    with contextlib.suppress(InputError):
        assert len(read_animals(content, NAME)) == 104
