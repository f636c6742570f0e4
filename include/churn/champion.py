"""The champion: the one model that scores, and how a new one takes its place.

Which one it is says champion.json in the object store, one small object that is written at once or not at all. Online the
W&B alias ``champion`` of the artifact moves with it. Rule: docs/decisions/0005-promotion-gate.md.
"""

import json
import logging
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from include.churn import model as churn_model
from include.churn.model_card import CARD_FILE, render_card
from include.churn.records import Champion, HandOver, TrainedModel, churn_folder, parse_record
from include.errors import InputError
from include.links import ObjectsLink, WandbRunLink, object_url, record_link
from include.object_store import object_path, read_object, write_object
from include.promotion import Decision, beats_baseline, decide
from include.run_key import run_key
from include.settings import settings
from include.wandb_tracking.errors import ModelDeleted
from include.wandb_tracking.models import ModelReference, give_alias
from include.wandb_tracking.runs import tracked_run
from include.wandb_tracking.target import tracking_target

log = logging.getLogger(__name__)

ALIAS = "champion"
RUN_NAME = "customer_churn"
ALREADY = "champion_already"


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


def load_champion(champion: Champion) -> tuple[RandomForestClassifier | None, str | None]:
    """The champion's model, or why it cannot score.

    Whatever the object store raises where it is unavailable is raised: that is worth a retry, and says nothing of the champion.
    """
    trained = champion.trained
    if trained.columns != churn_model.FEATURE_COLUMNS:
        return None, f"({champion.version}) takes other columns, {', '.join(trained.columns)}"
    unusable = f"({champion.version}) cannot be loaded"
    try:
        # without the last two there is nothing that predict could compare the customers with
        content, *_ = [each.read() for each in (trained.model, trained.training_customers, trained.drift_reference)]
    except InputError as error:
        log.warning("The champion %s cannot be loaded: %s", champion.version, error)
        return None, unusable
    try:
        return churn_model.load_model(content, trained.model.sha256), None
    except Exception as error:  # whatever is wrong with these very bytes, newer packages for example, stays wrong
        log.warning("The champion %s cannot be loaded: %s", champion.version, error)
        return None, unusable


def score_champion(champion: Champion, holdout: pd.DataFrame) -> tuple[np.ndarray | None, str | None]:
    """The champion's squared errors on the held-out customers, shape (n,), or why it has none."""
    model, problem = load_champion(champion)
    if model is None:
        return None, problem
    try:
        return churn_model.squared_errors(model, holdout), None
    except Exception as error:  # as in load_champion
        log.warning("The champion %s cannot score: %s", champion.version, error)
        return None, f"({champion.version}) cannot score"


def champion_for_scoring() -> Champion:
    """The champion for customers who are only to be scored; raises InputError where there is none that can be used."""
    champion, problem = read_champion()
    if champion:
        _, problem = load_champion(champion)
    if problem:
        raise InputError(f"The champion {problem}: run customer_analytics without score_only, which trains a new one")
    if champion is None:
        raise InputError("There is no champion yet to score with: run customer_analytics without score_only first")
    log.info("The champion is %s, made so by run %s", champion.version, champion.dag_run)
    return champion


def require_worth(handed_over: HandOver, *, score_anyway: bool) -> None:
    """Raise InputError where the champion's probabilities are worth nothing for the customers of this DAG run.

    Args:
        handed_over: what judge has found out.
        score_anyway: lets a champion pass that is no better than the baseline; one that cannot be used cannot score.

    """
    if handed_over.doubt is None:
        return
    if handed_over.better_than_baseline is None:
        raise InputError(
            f"{handed_over.doubt}. Nobody can be scored, and the predictions stay as they are. Put the champion's objects "
            "back, or train a model that beats the baseline: with more customers, or with other hyper_parameters"
        )
    if not score_anyway:
        raise InputError(
            f"{handed_over.doubt}. Nobody is scored, and the predictions stay as they are. If this is another shop, give it "
            "a champion of its own: set CHURN_ARTIFACT_NAME. To score these customers with this one all the same, trigger "
            "with score_anyway: better_than_baseline is false in each row then"
        )
    log.warning("%s. The customers are scored all the same, as score_anyway is set", handed_over.doubt)


def judge(features: pd.DataFrame, trained: dict[str, Any], dag_run: str) -> tuple[Decision, HandOver | None]:
    """Compare the new model with the champion on the held-out customers; where it wins, make it the champion.

    Decision and metrics go to an object beside the model, into its card, and to the run in W&B. champion.json comes last: a
    retry after a kill before that decides the same again, and a retry after it finds that its own DAG run has named this
    champion, and repeats that decision.

    Args:
        features: what the model was trained and judged on; shape (n, 4).
        trained: what include.churn.tracking.train returned.
        dag_run: the DAG run's id.

    Returns:
        The decision, and who scores after it; None where no model has ever been good enough.

    Raises:
        InputError: if the model was trained offline and there is a key by now, if its objects have changed since, or if a
            loss is not a finite number.

    """
    online = trained["server"] is not None
    require_same_mode(online)
    about_uri = trained["about"]["uri"]
    about = parse_record(TrainedModel, read_object(about_uri, sha256=trained["about"]["sha256"]), about_uri)
    challenger = Champion(
        trained=about,
        reference=ModelReference(**trained["reference"]),
        server=trained["server"],
        wandb_run=trained["wandb_run"],
        outcome="not_judged",
        reason="not judged yet",
        dag_run=dag_run,
    )
    training, holdout = churn_model.split(features)
    baseline = churn_model.baseline_squared_errors(training, holdout)
    losses = churn_model.squared_errors(churn_model.load_model(about.model.read(), about.model.sha256), holdout)
    former, problem = read_champion()
    champion, champion_losses = former, None
    if former and (former.trained.digests, former.trained.model) == (about.digests, about.model):
        champion, champion_losses = _repaired(former, challenger), losses
        decision, before = _standing_decision(champion, dag_run)
    else:
        if former:
            champion_losses, problem = score_champion(former, holdout)
        decision = decide(losses, baseline, champion_losses, champion_problem=problem)
        before = former.version if former else problem or "none"
        if decision.promoted:
            judged = {"outcome": decision.outcome, "reason": decision.reason, "figures": decision.figures}
            champion = challenger.model_copy(update=judged | {"champion_before": before})
            champion_losses = losses
    handed_over = _hand_over(decision, champion, champion_losses, problem, baseline, online)
    record = _describe(decision, before, handed_over.doubt if handed_over else None)
    if decision.outcome != ALREADY:
        content = json.dumps(record | {"dag_run": dag_run, "model": challenger.version}, indent=1)
        write_object(f"{about.folder}/gate/{run_key(dag_run)}.json", content.encode())
    reason = champion.reason if champion and decision.promoted else decision.reason
    card = render_card(about.model_dump(), settings.churn.artifact_name, reason)
    write_object(f"{about.folder}/{CARD_FILE}", card.encode())
    record_link(ObjectsLink, object_url(f"{about.folder}/"))  # gate/ and card are beside the model
    with tracked_run(trained["wandb_run_id"], job_type="gate", group=dag_run, name=RUN_NAME, resume=True) as tracked:
        tracked.run.summary.update({f"gate/{key}": value for key, value in record.items()})
        if decision.promoted and tracked.online:
            try:
                give_alias(tracked, challenger.reference, ALIAS)
            except ModelDeleted as error:  # the alias only shows in W&B what champion.json decides
                log.warning("%s. The alias %s is not given", error, ALIAS)
        record_link(WandbRunLink, tracked.link, said=True)
    if champion and champion != former:
        write_object(champion_uri(), champion.model_dump_json(indent=1).encode())
    log.info("%s is %s", challenger.version, decision.reason)
    if not decision.promoted:
        log.info("The champion stays: %s", champion.version if champion else "there is none yet")
    return decision, handed_over


def _repaired(champion: Champion, challenger: Champion) -> Champion:
    """The champion with what this DAG run has made or published of the same model: champion.json may be older, or edited."""
    repaired: dict[str, Any] = {"trained": challenger.trained}
    # offline there is no version, so that less would be known of it
    is_newer = challenger.reference.version and challenger.reference != champion.reference
    # an earlier try of this DAG run has made it the champion, and task train has run again since
    is_newer_try = challenger.dag_run == champion.dag_run and not champion.reference.version
    if is_newer or is_newer_try:
        repaired |= {name: getattr(challenger, name) for name in ("reference", "server", "wandb_run")}
    return champion.model_copy(update=repaired)


def _standing_decision(champion: Champion, dag_run: str) -> tuple[Decision, str]:
    """The decision on a model that is the champion, and who was the champion before it."""
    if champion.dag_run == dag_run:
        log.info("An earlier try of this DAG run has made %s the champion", champion.version)
        decision = Decision(True, champion.outcome, champion.reason, champion.figures)
        return decision, champion.champion_before
    return Decision(True, ALREADY, "the champion already"), champion.version


def _hand_over(
    decision: Decision,
    champion: Champion | None,
    losses: np.ndarray | None,
    problem: str | None,
    baseline: np.ndarray,
    trained_online: bool,
) -> HandOver | None:
    """Who scores after the decision: ``losses`` are the champion's, shape (n,); ``problem`` says why there are none."""
    better, doubt = None, f"The champion {problem}"
    if losses is not None and champion:
        better = beats_baseline(losses, baseline)
        doubt = (
            f"The champion {champion.version} is no better than the baseline on the {len(losses)} customers that this run "
            f"holds out (mean loss {losses.mean():.4g}, the baseline's {baseline.mean():.4g})"
        )
    elif not problem:
        return None
    return HandOver(
        champion=champion,
        trained_online=trained_online,
        better_than_baseline=better,
        doubt=None if better else f"{doubt}, and the new model is {decision.reason}",
    )


def require_same_mode(trained_online: bool) -> None:
    """Raise InputError where this DAG run's run in W&B cannot be resumed, because it was recorded offline."""
    if tracking_target().online and not trained_online:
        raise InputError(
            "The model was trained offline, and now there is a WANDB_API_KEY: clear task train, so that it is published"
        )


def _describe(decision: Decision, before: str, doubt: str | None) -> dict[str, Any]:
    return {
        "decision": "promoted" if decision.promoted else "rejected",
        "outcome": decision.outcome,
        "reason": decision.reason,
        "champion_before": before,
        **decision.figures,
        **({"doubt": doubt} if doubt else {}),
    }
