import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from include.errors import ConfigurationError, InputError
from include.holdout import in_holdout

ROOT = Path(__file__).parents[2]
SALT = "possum-v1"
HELD_OUT_CASES = [3, 10, 12, 19, 30, 44, 71, 75, 76, 79, 84, 87, 89, 98, 100, 101, 102, 104]


def test_membership_never_changes_between_versions_of_this_project():
    held_out = in_holdout(pd.Series(range(1, 105)), 0.2, SALT)

    # written down once: whoever changes the hash moves animals between training and holdout
    assert (held_out[held_out].index + 1).tolist() == HELD_OUT_CASES


def test_membership_is_the_same_in_another_process():
    script = (
        "import pandas as pd; from include.holdout import in_holdout;"
        "print(in_holdout(pd.Series(list('abcdefghij')), 0.5, 's').tolist())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}

    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == str(in_holdout(pd.Series(list("abcdefghij")), 0.5, "s").tolist())


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("salt", [SALT, "another"])
def test_the_share_is_met_within_chance(share, salt):
    count = 20_000
    # five standard deviations of a binomial count
    tolerance = 5 * (share * (1 - share) / count) ** 0.5

    assert in_holdout(pd.Series(range(count)), share, salt).mean() == pytest.approx(share, abs=tolerance)


def test_shares_of_nothing_and_everything_are_exact():
    keys = pd.Series(range(10_000))

    assert not in_holdout(keys, 0, SALT).any()
    assert in_holdout(keys, 1, SALT).all()


def test_another_salt_draws_another_sample():
    keys = pd.Series(range(1000))

    assert 0.1 < (in_holdout(keys, 0.5, SALT) ^ in_holdout(keys, 0.5, "possum-v2")).mean() < 0.9


def test_salt_and_key_do_not_run_together():
    keys = pd.Series(range(1000))

    prefixed = pd.Series([f"1{key}" for key in keys])

    assert in_holdout(prefixed, 0.5, "a").tolist() != in_holdout(keys, 0.5, "a1").tolist()


def test_a_number_and_its_digits_are_the_same_key():
    keys = pd.Series(range(1000))

    assert in_holdout(keys, 0.5, SALT).tolist() == in_holdout(keys.astype(str), 0.5, SALT).tolist()


def test_index_and_type_are_those_of_a_mask():
    keys = pd.Series([5, 6], index=["x", "y"])

    held_out = in_holdout(keys, 0.5, SALT)

    assert held_out.dtype == bool
    assert held_out.index.equals(keys.index)
    assert in_holdout(pd.Series([], dtype="int64"), 0.5, SALT).dtype == bool


def test_a_million_keys_take_seconds():
    keys = pd.Series(np.arange(10**6))
    start = time.process_time()

    in_holdout(keys, 0.2, SALT)

    assert time.process_time() - start < 10


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_beyond_0_to_1_is_refused(share):
    with pytest.raises(ConfigurationError, match=str(share)):
        in_holdout(pd.Series([1]), share, SALT)


@pytest.mark.parametrize(
    ("keys", "message"),
    [([1, None], "'case': 1 keys are missing"), ([1.5, 2.0], "'case'.*floating"), ([1, "a"], "'case'.*mixed")],
    ids=["missing", "floats", "mixed"],
)
def test_keys_that_are_no_whole_numbers_or_strings_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        in_holdout(pd.Series(keys, name="case"), 0.5, SALT)
