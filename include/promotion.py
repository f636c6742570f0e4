"""Whether a new model may take the champion's place: judged by its losses on the holdout rows, beside the champion's.

The rule and why it is this one: docs/decisions/0005-promotion-gate.md.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from include.errors import InputError

MINIMUM_HOLDOUT_ROWS = 10
SIGNIFICANCE = 0.05  # how often a newcomer that is as good as the champion is taken for worse


@dataclass(frozen=True)
class Decision:
    """What the gate decided and on which figures; ``outcome`` is one word for tags, ``reason`` a sentence for people."""

    promoted: bool
    outcome: str
    reason: str
    figures: dict[str, float] = field(default_factory=dict)


def decide(
    newcomer: ArrayLike,
    baseline: ArrayLike,
    champion: ArrayLike | None = None,
    *,
    champion_problem: str | None = None,
) -> Decision:
    """Decide from the loss on each holdout row; less is better, and row i is the same one in all three.

    Args:
        newcomer: the new model's losses, shape (n,), such as squared errors.
        baseline: those of the trivial answer.
        champion: those of the present champion; None where there is none or it cannot be used.
        champion_problem: why there is a champion that cannot be used, such as "cannot be loaded".

    Returns:
        Promoted is a newcomer that beats the baseline on average and, where there is a usable champion, is not worse
        than it by more than chance explains: the one-sided paired t-test at SIGNIFICANCE.

    Raises:
        InputError: if there are no losses, not the same number of each, or one that is not a finite number.

    """
    new, trivial = _losses("newcomer", newcomer), _losses("baseline", baseline)
    old = None if champion is None else _losses("champion", champion)
    _require_equal_lengths(newcomer=new, baseline=trivial, champion=old)
    figures = {"holdout_rows": float(len(new))}
    if len(new) < MINIMUM_HOLDOUT_ROWS:
        return Decision(
            False,
            "holdout_too_small",
            f"rejected: {len(new)} holdout rows cannot tell models apart, at least {MINIMUM_HOLDOUT_ROWS} are needed",
            figures,
        )
    figures |= {"newcomer_loss": float(new.mean()), "baseline_loss": float(trivial.mean())}
    if not beats_baseline(new, trivial):
        return Decision(
            False,
            "worse_than_baseline",
            f"rejected: its mean loss on the holdout is {new.mean():.4g}, the trivial answer's {trivial.mean():.4g}",
            figures,
        )
    if old is None:
        if champion_problem is None:
            return Decision(
                True, "first_model", "promoted: beats the trivial answer, and there is no champion", figures
            )
        return Decision(
            True,
            "champion_unusable",
            f"promoted: beats the trivial answer, and the champion {champion_problem}",
            figures,
        )
    return _compare(new, old, figures)


def beats_baseline(losses: ArrayLike, baseline: ArrayLike) -> bool:
    """Whether a model is better than the baseline: whether its mean loss on the same rows is smaller.

    Args:
        losses: the model's loss on each row, shape (n,).
        baseline: the baseline's, shape (n,).

    Raises:
        InputError: if there are no losses, not the same number of each, or one that is not a finite number.

    """
    own, trivial = _losses("model", losses), _losses("baseline", baseline)
    _require_equal_lengths(model=own, baseline=trivial)
    return bool(own.mean() < trivial.mean())


def _losses(whose: str, values: ArrayLike) -> np.ndarray:
    losses = np.asarray(values, dtype=float)
    if losses.ndim != 1 or not len(losses):
        raise InputError(f"The {whose}'s losses have the shape {losses.shape}: give one for each holdout row")
    if wrong := int((~np.isfinite(losses)).sum()):
        raise InputError(
            f"{wrong} of the {whose}'s {len(losses)} losses are not finite numbers: look at its predictions for these rows"
        )
    return losses


def _require_equal_lengths(**losses: np.ndarray | None) -> None:
    """Else numpy might stretch one of them."""
    lengths = {whose: len(each) for whose, each in losses.items() if each is not None}
    if len(set(lengths.values())) > 1:
        raise InputError(f"The losses are not of the same holdout rows: {lengths}")


def _compare(new: np.ndarray, old: np.ndarray, figures: dict[str, float]) -> Decision:
    difference = new - old
    # one-sided paired t-test: the margin within which a difference of the means is put down to the small sample
    standard_error = difference.std(ddof=1) / np.sqrt(len(difference))
    margin = float(stats.t.ppf(1 - SIGNIFICANCE, len(difference) - 1) * standard_error)
    figures = figures | {
        "champion_loss": float(old.mean()),
        "loss_difference": float(difference.mean()),
        "loss_margin": margin,
    }
    seen = f"mean holdout loss {new.mean():.4g}, the champion's {old.mean():.4g}"
    if not difference.any():
        return Decision(True, "equal", f"promoted: on the holdout it is the champion's equal ({seen})", figures)
    if difference.mean() > margin:
        return Decision(False, "worse", f"rejected: worse by more than the margin of {margin:.4g} ({seen})", figures)
    outcome, words = (
        ("better", "better") if difference.mean() < 0 else ("not_worse", f"within the margin of {margin:.4g}")
    )
    return Decision(True, outcome, f"promoted: {words} ({seen})", figures)
