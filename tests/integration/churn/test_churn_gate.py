"""Every outcome of the gate for churn models: on the real object store, with the real W&B client offline.

The tests call what the task calls, so that each can have its own champion, below a folder of its own.
"""

import json
from types import SimpleNamespace

import pytest
from sklearn.ensemble import RandomForestClassifier
from skops import io as skops_io

from include.churn import champion as gate
from include.churn import model as churn_model
from include.churn import tracking
from include.churn.records import StoredObject
from include.errors import InputError
from include.object_store import object_path, write_object
from tests.fakes.wandb_server import KEY, FakeWandb
from tests.helpers.dags import load_dag
from tests.integration.churn.shop import DAG, RUN, make_customers, of_another_shop

GOOD = {"n_estimators": 40}
BAD = {"n_estimators": 1, "max_depth": 1, "max_features": 1}


@pytest.fixture
def reigning(shop):
    """A shop with a good champion."""
    trained = shop.publish(GOOD)
    shop.judge(trained)
    return trained


def assert_decided(shop, decided, trained, outcome, promoted, words, caplog):
    decision, handed_over = decided
    assert (decision.outcome, decision.promoted) == (outcome, promoted)
    assert words in decision.reason
    version = f"churn_classifier@sha256:{trained['sha256'][:12]}"
    assert f"{version} is {decision.reason}" in caplog.text
    assert shop.record(trained)["outcome"] == outcome
    assert shop.card(trained).count(decision.reason) == 1
    if promoted:
        assert handed_over.champion.version == version
        assert (handed_over.better_than_baseline, handed_over.doubt) == (True, None)
        assert shop.champion()["trained"]["model"]["sha256"] == trained["sha256"]
        assert shop.champion()["reason"] == decision.reason


def test_first_model(shop, caplog):
    trained = shop.publish(GOOD)
    assert_decided(shop, shop.judge(trained), trained, "first_model", True, "there is no champion", caplog)


def test_better(shop, caplog):
    shop.judge(shop.publish({"n_estimators": 3, "max_depth": 1}))
    trained = shop.publish(GOOD)
    assert_decided(shop, shop.judge(trained), trained, "better", True, "promoted: better (mean holdout loss", caplog)
    assert shop.record(trained)["champion_before"] != "none"


def test_equal(shop, reigning, caplog):
    trained = shop.publish(GOOD | {"oob_score": True})
    assert_decided(shop, shop.judge(trained), trained, "equal", True, "the champion's equal", caplog)


def test_worse(shop, reigning, caplog):
    before = shop.champion()
    trained = shop.publish(BAD)
    decided = shop.judge(trained)
    assert_decided(shop, decided, trained, "worse", False, "rejected: worse by more than the margin", caplog)
    assert decided[1].champion.trained.model.sha256 == reigning["sha256"]
    assert (decided[1].better_than_baseline, decided[1].doubt) == (True, None)
    assert shop.champion() == before
    assert f"The champion stays: churn_classifier@sha256:{reigning['sha256'][:12]}" in caplog.text


def test_worse_than_the_trivial_answer_and_no_champion(shop, caplog):
    opposite = shop.publish({"n_estimators": 1, "max_depth": None, "min_samples_leaf": 1, "bootstrap": False})
    flipped = shop.features.assign(churned=1 - shop.features["churned"])
    decided = shop.judge(opposite, flipped)
    assert_decided(shop, decided, opposite, "worse_than_baseline", False, "the trivial answer's", caplog)
    assert decided[1] is None
    assert "The champion stays: there is none yet" in caplog.text
    with pytest.raises(InputError, match="There is no champion yet to score with"):
        gate.champion_for_scoring()


def test_the_same_model_of_another_run_changes_nothing(shop, reigning, caplog):
    before = shop.champion()
    decision, handed_over = shop.judge(shop.publish(GOOD), dag_run="another")
    assert (decision.outcome, decision.promoted) == ("champion_already", True)
    assert handed_over.better_than_baseline is True
    assert "is the champion already" in caplog.text
    assert shop.champion() == before
    assert shop.record(reigning)["outcome"] == "first_model"
    assert "promoted: beats the trivial answer, and there is no champion" in shop.card(reigning)


def test_champion_whose_object_is_gone(shop, reigning, caplog):
    object_path(shop.champion()["trained"]["model"]["uri"]).unlink()
    trained = shop.publish(BAD)
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, "cannot be loaded", caplog)
    assert "does not exist" in caplog.text


def test_champion_whose_object_was_changed(shop, reigning, caplog):
    write_object(shop.champion()["trained"]["model"]["uri"], b"something else")
    trained = shop.publish(BAD)
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, "cannot be loaded", caplog)
    assert "has changed since it was handed over" in caplog.text


class Stranger:
    """A type that loading must not build."""


def test_champion_that_holds_types_that_are_not_trusted(shop, reigning, caplog):
    training, _ = churn_model.split(shop.features)
    model = RandomForestClassifier(5).fit(training[churn_model.FEATURE_COLUMNS], training["churned"])
    model.note = Stranger()
    evil = StoredObject.write(f"{shop.folder}/evil.skops", skops_io.dumps(model))
    shop.edit_champion(model=evil.model_dump())
    trained = shop.publish(BAD)
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, "cannot be loaded", caplog)
    assert "Stranger" in caplog.text


def test_champion_with_other_columns(shop, reigning, caplog):
    shop.edit_champion(columns=["number_of_orders", "age"])
    trained = shop.publish(BAD)
    words = "takes other columns, number_of_orders, age"
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, words, caplog)


def test_champion_whose_record_is_damaged(shop, reigning, caplog):
    write_object(gate.champion_uri(), b'{"trained":')
    with pytest.raises(InputError, match=r"cannot be read: champion\.json is damaged: run customer_analytics without"):
        gate.champion_for_scoring()
    trained = shop.publish(BAD)
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, "cannot be read", caplog)


def test_too_few_to_be_judged_are_not_trained_on(shop):
    """The gate's minimum is asked for where the number is known, or else such a model could never become the champion."""
    few = make_customers(24, seed=1)
    with pytest.raises(InputError, match=r"holds out 6 and 3, .*at least 1 of each held out, and 10 in all"):
        tracking.train(few, RUN, {"n_estimators": 5}, None, {}, dag_id=DAG)
    assert shop.objects() == {}


def test_a_champion_made_offline_is_known_by_its_version_once_it_is_published(shop, reigning, monkeypatch):
    """What online publishing adds; the server's part is in test_churn_online."""
    trained = shop.publish(GOOD)
    online = {**trained["reference"], "version": "v0", "qualified_name": "acme/customer_churn/churn_classifier:v0"}
    published = trained | {"reference": online, "server": "http://somewhere", "wandb_run": "http://run"}
    _, handed_over = shop.judge(published, dag_run="another")
    assert handed_over.champion.version == "churn_classifier:v0"
    assert (shop.champion()["server"], shop.champion()["wandb_run"]) == ("http://somewhere", "http://run")


def test_a_key_that_came_between_train_and_gate_is_explained(shop, monkeypatch):
    trained = shop.publish(GOOD)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with pytest.raises(InputError, match="clear task train"):
        shop.judge(trained)


def test_customers_that_lack_a_column_of_the_champion_are_not_scored(shop, reigning):
    champion = gate.champion_for_scoring()
    with pytest.raises(InputError, match=r"features lack \['customer_lifetime_value'\]"):
        tracking.check_contract(champion, shop.features.drop(columns="customer_lifetime_value"))


def test_a_copy_of_the_dag_has_runs_of_its_own_in_wandb(shop, tmp_path):
    features = make_customers(80)
    original = tracking.train(features, RUN, {"n_estimators": 5}, None, {}, dag_id=DAG)

    copy = tracking.train(features, RUN, {"n_estimators": 5}, None, {}, dag_id="copy_of_it")

    assert original["wandb_run_id"] != copy["wandb_run_id"]
    assert all(list(tmp_path.glob(f"{trained['wandb_run_id']}/train/**/*.wandb")) for trained in (original, copy))


def test_a_model_that_somebody_deletes_in_wandb_is_promoted_and_scores_from_the_object_store(shop, monkeypatch, caplog):
    with FakeWandb(KEY) as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        trained = tracking.train(shop.features, RUN, {"n_estimators": 5}, None, {}, dag_id=DAG)
        server.delete_versions(trained["reference"]["name"])

        decision, handed_over = shop.judge(trained)
        predictions, _ = tracking.predict(shop.features, handed_over.dump(), RUN, "pred_churn", dag_id=DAG)

        assert decision.promoted
        assert shop.champion()["reference"] == trained["reference"]
        assert len(predictions) == len(shop.features)
        assert "The alias champion is not given" in caplog.text
        assert "is no longer in W&B, somebody has deleted it" in caplog.text
        assert f"taken from {trained['model_uri']}" in caplog.text
        assert server.run(trained["wandb_run_id"]).summary["predictions/rows"] == len(shop.features)
    assert server.problems == []


class TestAnotherShop:
    """Its customers have the same ids, and the champion is no better for them than the baseline."""

    @pytest.fixture
    def other(self, shop):
        return of_another_shop(shop.features)

    @pytest.fixture
    def judged(self, shop, reigning, other):
        trained = shop.publish(BAD, other)
        return trained, shop.judge(trained, other)

    def test_its_model_is_rejected_and_the_champion_doubted(self, shop, reigning, judged):
        trained, (decision, handed_over) = judged
        assert decision.outcome == "worse_than_baseline"
        assert handed_over.better_than_baseline is False
        version = f"churn_classifier@sha256:{reigning['sha256'][:12]}"
        assert f"The champion {version} is no better than the baseline on the" in handed_over.doubt
        assert decision.reason in handed_over.doubt
        assert shop.record(trained)["doubt"] == handed_over.doubt
        assert shop.champion()["trained"]["model"]["sha256"] == reigning["sha256"]

    def test_nobody_is_scored_unless_it_is_asked_for(self, judged, caplog):
        _, (_, handed_over) = judged
        with pytest.raises(InputError, match=r"no better than the baseline.*stay as they are.*with score_anyway"):
            gate.require_worth(handed_over, score_anyway=False)
        gate.require_worth(handed_over, score_anyway=True)
        assert f"{handed_over.doubt}. The customers are scored all the same" in caplog.text

    def test_a_champion_that_cannot_be_used_scores_nobody_even_then(self, shop, reigning, other):
        object_path(shop.champion()["trained"]["model"]["uri"]).unlink()
        trained = shop.publish(BAD, other)
        decision, handed_over = shop.judge(trained, other)
        assert (decision.outcome, handed_over.better_than_baseline) == ("worse_than_baseline", None)
        for score_anyway in (False, True):
            with pytest.raises(
                InputError, match=r"cannot be loaded, and the new model is rejected.*Nobody can be scored"
            ):
                gate.require_worth(handed_over, score_anyway=score_anyway)

    def test_a_champion_whose_record_is_damaged_scores_nobody(self, shop, reigning, other):
        write_object(gate.champion_uri(), b'{"trained":')
        _, handed_over = shop.judge(shop.publish(BAD, other), other)
        assert handed_over.champion is None
        with pytest.raises(InputError, match=r"champion.json is damaged, and the new model is rejected"):
            gate.require_worth(handed_over, score_anyway=True)


def test_the_task_that_fetches_the_champion_follows_the_param(shop, reigning, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    fetch = load_dag("customer_analytics").get_task("fetch_champion")
    other = of_another_shop(shop.features)
    _, handed_over = shop.judge(shop.publish(BAD, other), other)

    def run(**params):
        ti = SimpleNamespace(xcom_pull=lambda task_ids, key: json.loads(json.dumps(handed_over.dump())))
        return fetch.python_callable(params={"score_only": False, "score_anyway": False} | params, ti=ti)

    with pytest.raises(AirflowFailException, match="trigger with score_anyway"):
        run()
    assert run(score_anyway=True)["better_than_baseline"] is False
    assert run(score_only=True)["better_than_baseline"] is None
