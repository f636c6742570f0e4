"""The champion among the registered possum models: which version predict uses, and how a new one takes its place."""

import logging
import tempfile
from typing import Any

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from include.errors import InputError
from include.links import MLflowModelLink, model_url, record_link
from include.model_safety import require_safe
from include.possum.tracking import TRACED, holdout_rows, input_columns, provenance, read_complete_animals
from include.promotion import Decision, decide
from include.settings import settings

log = logging.getLogger(__name__)

CHAMPION = "champion"
TAG_PREFIX = "gate."


def judge(reference: dict[str, Any], version: str) -> Decision:
    """Compare a new version with the champion on the holdout animals, move the alias if it wins, and tag the version.

    Args:
        reference: of the animals, as in the dataset event.
        version: of the registered model.

    """
    client = mlflow.MlflowClient()
    name = settings.possum.registered_model_name
    animals = read_complete_animals(reference)
    held_out = holdout_rows(animals)
    holdout, training = animals[held_out], animals[~held_out]
    champion = find_champion(client)
    if champion and champion.version == version:
        log.info("Version %s of %s is the champion already", version, name)
        return Decision(promoted=True, outcome="champion_already", reason="the champion already")
    source = client.get_model_version(name, version).source
    require_safe(source)
    newcomer = mlflow.pyfunc.load_model(source)
    champion_losses, problem = None, None
    if champion:
        champion_losses, problem = score_champion(champion, newcomer, holdout)
    target = holdout[settings.possum.target_column]
    decision = decide(
        squared_errors(target, newcomer.predict(holdout[input_columns()])),
        squared_errors(target, np.full(len(holdout), training[settings.possum.target_column].mean())),
        champion_losses,
        champion_problem=problem,
    )
    tags = {"decision": "promoted" if decision.promoted else "rejected", "outcome": decision.outcome}
    tags |= {"reason": decision.reason, "champion_before": champion.version if champion else "none"}
    tags |= {key: f"{value:.6g}" for key, value in decision.figures.items()}
    tags = {f"{TAG_PREFIX}{key}": value for key, value in tags.items()}
    made_of = client.get_run(client.get_model_version(name, version).run_id or "").data.tags
    tags |= {key: made_of[key] for key in (*TRACED, *provenance()) if key in made_of}
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    if decision.promoted:
        client.set_registered_model_alias(name, CHAMPION, version)
    log.info("Version %s of %s is %s", version, name, decision.reason)
    return decision


def find_champion(client: mlflow.MlflowClient) -> Any | None:
    """The registered version with the alias champion, or None."""
    try:
        return client.get_model_version_by_alias(settings.possum.registered_model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def score_champion(champion: Any, newcomer: Any, holdout: pd.DataFrame) -> tuple[np.ndarray | None, str | None]:
    """The champion's losses on the holdout rows, or why it has none; a store that is away raises."""
    unusable = f"(version {champion.version}) cannot be loaded"
    try:
        require_safe(champion.source)
    except InputError as error:
        log.warning("The champion, version %s, cannot be loaded: %s", champion.version, error)
        return None, unusable
    with tempfile.TemporaryDirectory() as folder:
        # outside the try: a store that is away says nothing about the champion, and is worth a retry
        files = mlflow.artifacts.download_artifacts(artifact_uri=champion.source, dst_path=folder)
        try:
            model = mlflow.pyfunc.load_model(files)
        except Exception as error:  # whatever is wrong with these very files stays wrong
            log.warning("The champion, version %s, cannot be loaded: %s", champion.version, error)
            return None, unusable
    if model.metadata.signature != newcomer.metadata.signature:
        return None, f"(version {champion.version}) has another signature"
    return squared_errors(holdout[settings.possum.target_column], model.predict(holdout[input_columns()])), None


def squared_errors(true: pd.Series, predicted: Any) -> np.ndarray:
    """Squared error of each row, in the target's unit squared."""
    return (true.to_numpy() - np.asarray(predicted)) ** 2


def describe_champion() -> dict[str, Any]:
    """What predict needs to know of the champion.

    Returns:
        ``name``, ``version``, ``model_uri`` (``s3://``), ``run_id``, ``experiment_id``, its run's ``metrics``, and the
        animals it was trained on, ``trained_on_uri`` and ``trained_on_sha256``; an empty dict where there is no champion.

    """
    client = mlflow.MlflowClient()
    champion = find_champion(client)
    if champion is None:
        return {}
    run = client.get_run(champion.run_id)
    log.info("The champion is version %s of %s", champion.version, champion.name)
    record_link(MLflowModelLink, model_url(champion.name, champion.version))
    return {
        "name": champion.name,
        "version": champion.version,
        "model_uri": champion.source,
        "run_id": champion.run_id,
        "experiment_id": run.info.experiment_id,
        "metrics": run.data.metrics,
        "trained_on_uri": run.data.tags["animals_uri"],
        "trained_on_sha256": run.data.tags["animals_sha256"],
    }
