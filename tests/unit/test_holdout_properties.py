"""What holds for any keys and shares; hypothesis, which draws them, is not in the Astro image."""

import pandas as pd
import pytest

from include.holdout import in_holdout

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis, which the Astro image lacks: make test")
given = hypothesis.given
st = hypothesis.strategies

SALT = "possum-v1"
KEYS = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True) | st.lists(st.text(), unique=True)


def as_series(keys):
    return pd.Series(keys, name="case", dtype=None if keys else "int64")


@given(KEYS, st.floats(0, 1), st.randoms())
def test_membership_does_not_depend_on_the_order(keys, share, random):
    before = dict(zip(keys, in_holdout(as_series(keys), share, SALT), strict=True))

    random.shuffle(keys)

    assert dict(zip(keys, in_holdout(as_series(keys), share, SALT), strict=True)) == before


@given(st.lists(st.integers(0, 10**9), unique=True, min_size=1), st.data())
def test_adding_rows_never_moves_an_old_one(keys, data):
    old = data.draw(st.lists(st.sampled_from(keys), unique=True))

    after = dict(zip(keys, in_holdout(as_series(keys), 0.3, SALT), strict=True))

    assert in_holdout(as_series(old), 0.3, SALT).tolist() == [after[key] for key in old]


@given(KEYS, st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_a_larger_share_only_adds_rows(keys, shares):
    small, large = (in_holdout(as_series(keys), share, SALT) for share in shares)

    assert (large | ~small).all()
