"""Whether the champion beats the baseline for the animals that it is to score, as far as their lengths are known."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from include.errors import InputError
from include.possum.animals import read_complete_animals
from include.possum.champion import (
    baseline_losses,
    describe_champion,
    load_model,
    losses_of,
    require_whole,
    squared_errors,
)
from include.possum.features import holdout_rows
from include.possum.scoring import require_columns
from include.promotion import MINIMUM_HOLDOUT_ROWS, beats_baseline
from include.settings import settings

log = logging.getLogger(__name__)

REMEDY = (
    "Nothing is published, and former predictions and plots stay. Trigger feature_eng with animals of which a model passes the "
    "gate, or trigger predict with the param score_anyway: then each row says so"
)


def compare_with_baseline(model: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Whether the champion is of any use for these animals: its mean loss on those held out, and the baseline's.

    Args:
        model: what describe_champion has returned.
        reference: of the animals, as in the dataset event.

    Returns:
        ``better_than_baseline``, and what that is derived from: ``unseen_rows``, the number of held-out animals, and
        ``champion_loss`` and ``baseline_loss``, means over them in the target's unit squared.

    Raises:
        InputError: if the model takes other columns than the animals have, or cannot be loaded.

    """
    animals = read_complete_animals(reference)
    held_out = holdout_rows(animals)
    holdout, training = animals[held_out], animals[~held_out]
    loaded = load_model(model["model_uri"])
    require_columns(loaded.metadata.signature, model["model_uri"], holdout)
    return _compare(losses_of(loaded, holdout), baseline_losses(training, holdout))


def choose_model(
    reference: dict[str, Any], *, by_hand: bool, other_animals: bool, score_anyway: bool
) -> dict[str, Any]:
    """The model that predict uses, which has all its files.

    Args:
        reference: of the dataset event: a model and animals.
        by_hand: whether somebody has triggered the run. Then the present champion scores, to which the alias may have been moved
            since the event; otherwise the event's model.
        other_animals: whether others than those of the event are to be scored; ``mark_predictions`` judges those.
        score_anyway: whether a model is used that is no better than the baseline for the event's animals.

    Returns:
        The reference, with what describes the model.

    Raises:
        InputError: if there is no champion, it cannot be used, or it is no better than the baseline.

    """
    if not by_hand:
        require_whole(reference)
    else:
        champion = describe_champion()
        if not champion:
            raise InputError(
                f"No version of {settings.possum.registered_model_name} has the alias champion: give it to one in MLflow, or "
                "trigger train, which names a champion"
            )
        champion |= {"better_than_baseline": None} if other_animals else compare_with_baseline(champion, reference)
        reference = reference | champion
    if not other_animals:
        _require_better(reference, reference, score_anyway=score_anyway)
    return reference


def mark_predictions(
    predictions: pd.DataFrame, model: dict[str, Any], *, other_animals: bool, score_anyway: bool
) -> pd.DataFrame:
    """Say in each row whether the model is better than the baseline for these animals.

    The event's animals are those of the gate, which knows. Other animals are judged by those whose length is known and which the
    model was not trained on: its mean squared error on them, against that of predicting for each the mean of the others.

    Args:
        predictions: see results.join_predictions.
        model: of choose_model.
        other_animals: whether these are others than the event's.
        score_anyway: whether predictions are let through that are no better.

    Returns:
        The predictions with the column ``better_than_baseline``: true, false, or missing where fewer than 10 of other animals
        tell.

    Raises:
        InputError: if the model is no better than the baseline for other animals.

    """
    if not other_animals:
        better = model["better_than_baseline"]
    else:
        target = settings.possum.target_column
        telling = predictions[predictions[f"true_{target}"].notna() & ~predictions["used_for_training"]]
        true = telling[f"true_{target}"]
        if len(telling) < MINIMUM_HOLDOUT_ROWS:
            log.info(
                "%d animals of known length that the model was not trained on are too few to judge it by", len(telling)
            )
            better = None
        else:
            own = squared_errors(true, telling[f"predicted_{target}"])
            # the mean of the others: with its own length among them, the baseline would know a part of the answer
            baseline = squared_errors(true, (true.sum() - true) / (len(true) - 1))
            found = _compare(own, baseline)
            _require_better(model, found, score_anyway=score_anyway)
            better = found["better_than_baseline"]
    return predictions.assign(better_than_baseline=pd.array([better] * len(predictions), dtype="boolean"))


def _compare(own: np.ndarray, baseline: np.ndarray) -> dict[str, Any]:
    return {
        "better_than_baseline": beats_baseline(own, baseline),
        "unseen_rows": len(own),
        "champion_loss": float(own.mean()),
        "baseline_loss": float(baseline.mean()),
    }


def _require_better(model: dict[str, Any], found: dict[str, Any], *, score_anyway: bool) -> None:
    rmse, baseline_rmse = found["champion_loss"] ** 0.5, found["baseline_loss"] ** 0.5
    finding = (
        f"Version {model['version']} of {model['name']} has an RMSE of {rmse:.2f} cm on the {found['unseen_rows']} of these "
        f"animals whose length is known and which it was not trained on; predicting the mean has {baseline_rmse:.2f} cm"
    )
    log.info(finding)
    if found["better_than_baseline"]:
        return
    if not score_anyway:
        raise InputError(f"{finding}: it is no better than the baseline. {REMEDY}")
    log.warning("It is no better than the baseline, and scores all the same, as the param score_anyway says")
