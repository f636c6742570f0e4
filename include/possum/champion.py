"""The champion among the registered possum models: which version predict uses, and how a new one takes its place."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

import include.skops_io
from include.errors import InputError
from include.links import MLflowModelLink, model_url, record_link
from include.mlflow_files import find_damage, recorded_file
from include.model_safety import require_safe
from include.possum.animals import TRAINED_ON, input_columns, read_complete_animals
from include.possum.features import holdout_rows
from include.possum.tracking import TRACED, provenance
from include.promotion import Decision, decide
from include.settings import settings

log = logging.getLogger(__name__)

CHAMPION = "champion"
TAG_PREFIX = "gate."
DECIDED = f"{TAG_PREFIX}decision"  # written last of the gate's tags: where it is, the others are too


@dataclass(frozen=True)
class Version:
    """A version of the registered model; ``source`` is the folder with its files, ``run_id`` is empty where it has no run."""

    name: str
    version: str
    source: str
    run_id: str
    tags: dict[str, str]


def judge(reference: dict[str, Any], version: str, before_alias: Callable[[str], object] | None = None) -> Decision:
    """Compare a new version with the champion on the holdout animals, tag the version, and move the alias if it wins.

    The alias moves last. So a task that is killed before that decides again, and one that is killed after it finds all that
    belongs to the decision.

    Args:
        reference: of the animals, as in the dataset event.
        version: of the registered model.
        before_alias: called with the version when its tags are there: what quotes them, such as the model card.

    Raises:
        InputError: if the champion is a version that this project has not made, or the new version has lost files.

    """
    client = mlflow.MlflowClient()
    name = settings.possum.registered_model_name
    challenger, champion = _read_version(client, version), find_champion(client)
    if champion and not _is_own(client, champion):
        raise InputError(_unusable(champion, "was not made by this DAG"))
    already = champion is not None and champion.version == version
    if already:
        decision = Decision(promoted=True, outcome="champion_already", reason="the champion already")
        if DECIDED not in challenger.tags:  # somebody has given it the alias before the gate could
            _record(client, challenger, decision, version)
    else:
        decision = _compare(reference, challenger, champion)
        _record(client, challenger, decision, champion.version if champion else "none")
    if before_alias:
        before_alias(version)
    if decision.promoted and not already:
        client.set_registered_model_alias(name, CHAMPION, version)
    log.info("Version %s of %s is %s", version, name, decision.reason)
    return decision


def find_champion(client: mlflow.MlflowClient) -> Version | None:
    """The registered version with the alias champion, or None."""
    try:
        found = client.get_model_version_by_alias(settings.possum.registered_model_name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return _describe(client, found)


def _read_version(client: mlflow.MlflowClient, version: str) -> Version:
    name = settings.possum.registered_model_name
    try:
        return _describe(client, client.get_model_version(name, version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(
            f"Version {version} of {name} is not registered any more: trigger train, which registers the model again"
        ) from error


def _describe(client: mlflow.MlflowClient, found: Any) -> Version:
    # not its source, which is a logged model's id where somebody has registered it in MLflow's UI
    source = client.get_model_version_download_uri(found.name, found.version)
    return Version(found.name, str(found.version), source, found.run_id or "", dict(found.tags))


def _is_own(client: mlflow.MlflowClient, version: Version) -> bool:
    """Whether this DAG has made the version: it has been judged, or comes from a training run."""
    if DECIDED in version.tags:
        return True
    try:
        return bool(version.run_id) and set(TRACED) <= client.get_run(version.run_id).data.tags.keys()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _unusable(champion: Version, problem: str) -> str:
    return (
        f"Version {champion.version} of {champion.name}, which has the alias {CHAMPION}, {problem}: in MLflow move the alias to "
        f"a version that has tags {TAG_PREFIX}*, or remove the alias, then run this again"
    )


def _compare(reference: dict[str, Any], challenger: Version, champion: Version | None) -> Decision:
    animals = read_complete_animals(reference)
    held_out = holdout_rows(animals)
    holdout, training = animals[held_out], animals[~held_out]
    if challenger.run_id and (damage := find_damage(challenger.run_id)):
        raise InputError(
            f"Version {challenger.version} of {challenger.name} cannot be used: {damage}. Trigger train, which makes it again"
        )
    require_safe(challenger.source)
    model = mlflow.pyfunc.load_model(challenger.source)
    losses, problem = None, None
    if champion and champion.run_id and (damage := find_damage(champion.run_id)):
        problem = f"(version {champion.version}) cannot be used: {damage}"
        log.warning("The champion %s", problem)
    elif champion:
        losses, problem = score_champion(champion, model, holdout)
    return decide(losses_of(model, holdout), baseline_losses(training, holdout), losses, champion_problem=problem)


def _record(client: mlflow.MlflowClient, version: Version, decision: Decision, champion_before: str) -> None:
    """Tags of the version: what was decided, on which figures, and what the version is made of; no older ones are left."""
    tags = {"outcome": decision.outcome, "reason": decision.reason, "champion_before": champion_before}
    tags |= {key: f"{value:.6g}" for key, value in decision.figures.items()}
    tags = {f"{TAG_PREFIX}{key}": value for key, value in tags.items()}
    made_of = client.get_run(version.run_id).data.tags if version.run_id else {}
    tags |= {key: made_of[key] for key in (*TRACED, *provenance()) if key in made_of}
    for key in sorted(version.tags.keys() - tags.keys(), key=DECIDED.__ne__):
        if key.startswith(TAG_PREFIX):
            client.delete_model_version_tag(version.name, version.version, key)
    tags[DECIDED] = "promoted" if decision.promoted else "rejected"
    for key, value in tags.items():
        client.set_model_version_tag(version.name, version.version, key, value)


def score_champion(champion: Any, challenger: Any, holdout: pd.DataFrame) -> tuple[np.ndarray | None, str | None]:
    """The champion's losses on the holdout rows, or why it has none; a store that is unavailable raises."""
    try:
        model = load_model(champion.source)
    except InputError as error:
        log.warning("The champion, version %s, cannot be loaded: %s", champion.version, error)
        return None, f"(version {champion.version}) cannot be loaded"
    if model.metadata.signature != challenger.metadata.signature:
        return None, f"(version {champion.version}) has another signature"
    return losses_of(model, holdout), None


def load_model(source: str) -> Any:
    """The model in a folder; raises InputError where it is not safe to load, missing or damaged."""
    require_safe(source)
    with tempfile.TemporaryDirectory() as folder:
        # outside the try: a store that is unavailable says nothing about the model, and is worth a retry
        files = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=folder)
        try:
            return mlflow.pyfunc.load_model(files)
        except Exception as error:  # whatever is wrong with these very files stays wrong
            raise InputError(f"{source} cannot be loaded: {error}") from error


def losses_of(model: Any, rows: pd.DataFrame) -> np.ndarray:
    """Squared error of the model for each animal; shape (n,)."""
    return squared_errors(rows[settings.possum.target_column], model.predict(rows[input_columns()]))


def baseline_losses(training: pd.DataFrame, holdout: pd.DataFrame) -> np.ndarray:
    """Losses of predicting the training animals' mean for each holdout animal; shape (holdout animals,)."""
    target = settings.possum.target_column
    return squared_errors(holdout[target], np.full(len(holdout), training[target].mean()))


def squared_errors(true: pd.Series, predicted: Any) -> np.ndarray:
    """Squared error of each row, in the target's unit squared."""
    return (true.to_numpy() - np.asarray(predicted)) ** 2


def describe_champion() -> dict[str, Any]:
    """What predict needs to know of the champion, which has all its files.

    Returns:
        ``name``, ``version``, ``model_uri`` (``s3://``), ``run_id``, ``experiment_id``, its run's ``metrics``, and the
        table of the animals it was trained on, ``trained_on_uri`` and ``trained_on_sha256`` (see animals.describe_rows); an
        empty dict where there is no champion.

    Raises:
        InputError: if the champion is a version that this project has not made, or has lost files.

    """
    client = mlflow.MlflowClient()
    champion = find_champion(client)
    if champion is None:
        return {}
    if not champion.run_id or not _is_own(client, champion):
        raise InputError(_unusable(champion, "was not made by this DAG"))
    require_whole({"name": champion.name, "version": champion.version, "run_id": champion.run_id})
    run = client.get_run(champion.run_id)
    trained_on = recorded_file(run, TRAINED_ON)
    if trained_on is None:
        raise InputError(
            _unusable(champion, f"is of a former state of this project, without the artifact {TRAINED_ON}")
        )
    log.info("The champion is version %s of %s", champion.version, champion.name)
    record_link(MLflowModelLink, model_url(champion.name, champion.version))
    return {
        "name": champion.name,
        "version": champion.version,
        "model_uri": champion.source,
        "run_id": champion.run_id,
        "experiment_id": run.info.experiment_id,
        "metrics": run.data.metrics,
        "trained_on_uri": trained_on[0],
        "trained_on_sha256": trained_on[1],
    }


def require_whole(model: dict[str, Any]) -> None:
    """Raise InputError where a version's run or one of its files is gone: ``name``, ``version`` and ``run_id``."""
    if damage := find_damage(model["run_id"]):
        raise InputError(
            f"Version {model['version']} of {model['name']} cannot be used: {damage}. Trigger feature_eng: the training that "
            "follows makes what is missing again, and a model that beats the baseline takes this one's place. Or in MLflow move "
            f"the alias {CHAMPION} to another version, and trigger predict"
        )
