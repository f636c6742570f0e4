"""The champion: the one model that scores, and how a new one takes its place.

Which one it is says champion.json in the object store, one small object that is written at once or not at all. Online the
W&B alias ``champion`` of the artifact moves with it. Rule: docs/decisions/0005-promotion-gate.md.
"""

import json
import logging
from typing import Any

import numpy as np
import pandas as pd

from include.churn import model as churn_model
from include.churn.model_card import render_card
from include.churn.records import Champion, TrainedModel, churn_folder, parse_record
from include.errors import InputError
from include.links import ObjectsLink, WandbRunLink, object_url, record_link
from include.object_store import object_path, read_object, write_object
from include.promotion import Decision, decide
from include.run_key import run_key
from include.settings import settings
from include.wandb_tracking.errors import ModelDeleted
from include.wandb_tracking.models import ModelReference, give_alias
from include.wandb_tracking.runs import tracked_run
from include.wandb_tracking.target import tracking_target

log = logging.getLogger(__name__)

ALIAS = "champion"
CARD_FILE = "model_card.md"
RUN_NAME = "customer_churn"


def champion_uri() -> str:
    """Where it is written which model is the champion."""
    return f"{churn_folder()}/champion.json"


def read_champion() -> tuple[Champion | None, str | None]:
    """The champion, None where there is none; or why there is one that cannot be used."""
    try:
        content = object_path(champion_uri()).read_bytes()
    except FileNotFoundError:
        return None, None
    try:
        return parse_record(Champion, content, champion_uri()), None
    except InputError as error:
        log.warning("The champion cannot be read: %s", error)
        return None, "cannot be read: champion.json is damaged"


def champion_for_scoring() -> Champion:
    """The champion for customers who are only to be scored; raises InputError where there is none."""
    champion, problem = read_champion()
    if champion is None:
        raise InputError(
            f"{champion_uri()} {problem}: run customer_analytics without score_only, which names a new one"
            if problem
            else "There is no champion yet to score with: run customer_analytics without score_only first"
        )
    log.info("The champion is %s, made so by run %s", champion.version, champion.dag_run)
    return champion


def judge(features: pd.DataFrame, trained: dict[str, Any], dag_run: str) -> tuple[Decision, Champion | None]:
    """Compare the new model with the champion on the held-out customers; where it wins, make it the champion.

    Decision and figures go to the run in W&B, to an object beside the model, and into its card.

    Args:
        features: what the model was trained and judged on; shape (n, 4).
        trained: what include.churn.tracking.train returned.
        dag_run: the DAG run's id.

    Returns:
        The decision, and who is the champion after it; None where no model has ever been good enough.

    """
    about_uri = trained["about"]["uri"]
    about = parse_record(TrainedModel, read_object(about_uri, sha256=trained["about"]["sha256"]), about_uri)
    reference = ModelReference(**trained["reference"])
    champion, problem = read_champion()
    if champion and champion.trained.digests == about.digests and champion.trained.model == about.model:
        decision = Decision(promoted=True, outcome="champion_already", reason="the champion already")
    else:
        decision = _compare(about, features, champion, problem)
    before = champion.version if champion else problem or "none"
    newcomer = Champion(
        trained=about,
        reference=reference,
        server=trained["server"],
        wandb_run=trained["wandb_run"],
        outcome=decision.outcome,
        reason=decision.reason,
        figures=decision.figures,
        dag_run=dag_run,
    )
    require_same_mode(trained["server"] is not None)
    with tracked_run(trained["wandb_run_id"], job_type="gate", group=dag_run, name=RUN_NAME, resume=True) as tracked:
        tracked.run.summary.update({f"gate/{key}": value for key, value in _describe(decision, before).items()})
        if decision.promoted and tracked.online:
            try:
                give_alias(tracked, reference, ALIAS)
            except ModelDeleted as error:  # the alias only shows in W&B what champion.json decides
                log.warning("%s. The alias %s is not given", error, ALIAS)
        record_link(WandbRunLink, tracked.link, said=True)
    if decision.outcome != "champion_already":
        if decision.promoted:
            champion = newcomer
            write_object(champion_uri(), champion.model_dump_json(indent=1).encode())
        record = _describe(decision, before) | {"dag_run": dag_run, "model": newcomer.version}
        write_object(f"{about.folder}/gate/{run_key(dag_run)}.json", json.dumps(record, indent=1).encode())
        card = render_card(about.model_dump(), settings.churn.artifact_name, decision.reason)
        write_object(f"{about.folder}/{CARD_FILE}", card.encode())
    elif champion and reference.version and champion.reference != reference:
        # it became the champion offline, or at another server, and is published here only now
        champion = champion.model_copy(
            update={"reference": reference, "server": trained["server"], "wandb_run": trained["wandb_run"]}
        )
        write_object(champion_uri(), champion.model_dump_json(indent=1).encode())
    record_link(ObjectsLink, object_url(f"{about.folder}/"))  # gate/ and card lie beside the model
    log.info("%s is %s", newcomer.version, decision.reason)
    if not decision.promoted:
        log.info("The champion stays: %s", champion.version if champion else "there is none yet")
    return decision, champion


def _compare(about: TrainedModel, features: pd.DataFrame, champion: Champion | None, problem: str | None) -> Decision:
    training, holdout = churn_model.split(features)
    newcomer = churn_model.load_model(about.model.read(), about.model.sha256)
    losses = None
    if champion:
        losses, problem = score_champion(champion, holdout)
    return decide(
        churn_model.squared_errors(newcomer, holdout),
        churn_model.baseline_squared_errors(training, holdout),
        losses,
        champion_problem=problem,
    )


def score_champion(champion: Champion, holdout: pd.DataFrame) -> tuple[np.ndarray | None, str | None]:
    """The champion's losses on the held-out customers, or why it has none."""
    if champion.trained.columns != churn_model.FEATURE_COLUMNS:
        return None, f"({champion.version}) takes other columns, {', '.join(champion.trained.columns)}"
    try:
        content = champion.trained.model.read()
    except InputError as error:  # anything else, such as a store that is away, is worth a retry
        log.warning("The champion %s cannot be loaded: %s", champion.version, error)
        return None, f"({champion.version}) cannot be loaded"
    try:
        model = churn_model.load_model(content, champion.trained.model.sha256)
        return churn_model.squared_errors(model, holdout), None
    except Exception as error:  # whatever is wrong with these very bytes, newer packages for example, stays wrong
        log.warning("The champion %s cannot be loaded: %s", champion.version, error)
        return None, f"({champion.version}) cannot be loaded"


def require_same_mode(trained_online: bool) -> None:
    """Raise InputError where this DAG run's run in W&B cannot be resumed, because it was recorded offline."""
    if tracking_target().online and not trained_online:
        raise InputError(
            "The model was trained offline, and now there is a WANDB_API_KEY: clear task train, so that it is published"
        )


def _describe(decision: Decision, before: str) -> dict[str, Any]:
    return {
        "decision": "promoted" if decision.promoted else "rejected",
        "outcome": decision.outcome,
        "reason": decision.reason,
        "champion_before": before,
        **decision.figures,
    }
