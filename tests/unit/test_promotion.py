"""Which newcomers become champion."""

import numpy as np
import pytest

from include.errors import InputError
from include.promotion import MINIMUM_HOLDOUT_ROWS, SIGNIFICANCE, beats_baseline, decide

RNG = np.random.default_rng(7)
ROWS = 40
BASELINE = np.full(ROWS, 4.0)
CHAMPION = RNG.gamma(2.0, 0.8, ROWS)


def test_the_first_model_that_beats_the_baseline_is_promoted():
    decision = decide(CHAMPION, BASELINE)

    assert (decision.promoted, decision.outcome) == (True, "first_model")
    assert decision.figures["newcomer_loss"] == pytest.approx(CHAMPION.mean())


def test_a_model_no_better_than_the_baseline_is_rejected_even_without_a_champion():
    decision = decide(BASELINE, BASELINE)

    assert (decision.promoted, decision.outcome) == (False, "worse_than_baseline")


def test_a_better_model_is_promoted():
    decision = decide(CHAMPION * 0.5, BASELINE, CHAMPION)

    assert (decision.promoted, decision.outcome) == (True, "better")


def test_an_equal_model_is_promoted_and_called_equal():
    decision = decide(CHAMPION, BASELINE, CHAMPION)

    assert (decision.promoted, decision.outcome) == (True, "equal")


def test_a_slightly_worse_model_is_promoted_as_chance_explains_the_difference():
    noisy = CHAMPION + RNG.normal(0, 1, ROWS)
    noisy += 0.05 - (noisy - CHAMPION).mean()  # worse by 0.05 on average, with a spread of about 1

    decision = decide(noisy, BASELINE, CHAMPION)

    assert (decision.promoted, decision.outcome) == (True, "not_worse")
    assert 0 < decision.figures["loss_difference"] < decision.figures["loss_margin"]


def test_a_model_that_is_worse_on_every_row_is_rejected_although_it_beats_the_baseline():
    worse = CHAMPION + 0.5 + RNG.uniform(0, 0.1, ROWS)

    decision = decide(worse, BASELINE, CHAMPION)

    assert worse.mean() < BASELINE.mean()
    assert (decision.promoted, decision.outcome) == (False, "worse")


def test_a_champion_that_cannot_be_used_gives_way_to_a_model_that_beats_the_baseline():
    decision = decide(CHAMPION, BASELINE, champion_problem="(version 3) cannot be loaded")

    assert (decision.promoted, decision.outcome) == (True, "champion_unusable")
    assert "(version 3) cannot be loaded" in decision.reason


def test_a_champion_that_cannot_be_used_does_not_let_a_useless_model_in():
    assert not decide(BASELINE, BASELINE, champion_problem="has another signature").promoted


def test_a_holdout_that_is_too_small_rejects_any_model():
    few = MINIMUM_HOLDOUT_ROWS - 1

    decision = decide(CHAMPION[:few] * 0, BASELINE[:few], CHAMPION[:few])

    assert (decision.promoted, decision.outcome) == (False, "holdout_too_small")
    assert str(few) in decision.reason


def test_a_model_as_good_as_the_champion_is_called_worse_about_as_often_as_the_significance_says():
    draws = 2000
    rejected = 0
    for _ in range(draws):
        shared = RNG.gamma(2.0, 0.8, 21)
        newcomer, champion = shared + RNG.normal(0, 0.5, 21), shared + RNG.normal(0, 0.5, 21)
        rejected += not decide(newcomer, np.full(21, 100.0), champion).promoted

    assert rejected / draws == pytest.approx(SIGNIFICANCE, abs=0.02)


# Checks fail closed

WRONG = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf}


def losses(**wrong: float) -> dict[str, np.ndarray]:
    three = {"newcomer": CHAMPION * 0.5, "baseline": BASELINE, "champion": CHAMPION}
    for whose, value in wrong.items():
        three[whose] = np.append(three[whose][:-1], value)
    return three


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("whose", ["newcomer", "baseline", "champion"])
def test_a_loss_that_is_no_finite_number_is_refused_and_never_promotes(whose, value):
    with pytest.raises(InputError, match=f"1 of the {whose}'s {ROWS} losses are not finite"):
        decide(*losses(**{whose: value}).values())


def test_all_champion_losses_missing_is_no_promotion():
    with pytest.raises(InputError, match="champion's"):
        decide(CHAMPION, BASELINE, np.full(ROWS, np.nan))


@pytest.mark.parametrize("length", [0, 1, ROWS - 1, ROWS + 1])
@pytest.mark.parametrize("whose", ["newcomer", "baseline", "champion"])
def test_losses_of_other_rows_are_refused(whose, length):
    three = losses() | {whose: np.ones(length)}
    with pytest.raises(InputError, match=r"not of the same holdout rows|shape \(0,\)"):
        decide(*three.values())


def test_a_table_of_losses_is_refused():
    with pytest.raises(InputError, match=r"shape \(40, 1\)"):
        decide(CHAMPION[:, None], BASELINE)


def test_beats_baseline_compares_the_mean_losses():
    assert beats_baseline(CHAMPION, BASELINE)
    assert not beats_baseline(BASELINE, BASELINE)
    assert not beats_baseline(BASELINE + 1, BASELINE)


@pytest.mark.parametrize("wrong", [np.full(ROWS, np.nan), np.array([]), np.ones(3)])
def test_beats_baseline_refuses_what_it_cannot_compare(wrong):
    with pytest.raises(InputError):
        beats_baseline(wrong, BASELINE)
    with pytest.raises(InputError):
        beats_baseline(BASELINE, wrong)
