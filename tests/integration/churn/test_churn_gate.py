"""Every outcome of the gate for churn models: on the real object store, with the real W&B client offline.

The tests call what the task calls, so that each can have its own champion, below a folder of its own.
"""

import json
import logging
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from skops import io as skops_io

from include.churn import champion as gate
from include.churn import model as churn_model
from include.churn import records, tracking
from include.churn.records import StoredObject, TrainedModel
from include.errors import InputError
from include.object_store import object_path, write_object
from include.settings import ChurnSettings, Settings
from include.wandb_tracking.models import ModelReference
from include.wandb_tracking.target import run_id_for
from tests.fakes.wandb_server import KEY, FakeWandb

GOOD = {"n_estimators": 40}
BAD = {"n_estimators": 1, "max_depth": 1, "max_features": 1}
RUN = "manual__2026-01-01"
DAG = "customer_analytics"


def make_customers(count: int, seed: int = 5) -> pd.DataFrame:
    """Customers of whom those with fewer orders leave more often."""
    rng = np.random.default_rng(seed)
    orders = rng.poisson(3, count)
    return pd.DataFrame(
        {
            "customer_id": np.arange(1, count + 1),
            "number_of_orders": orders,
            "customer_lifetime_value": (orders * rng.uniform(5, 30, count)).round(2),
            "churned": (rng.random(count) < 1 / (1 + np.exp(1.5 * (orders - 3)))).astype(int),
        }
    )


@dataclass
class Shop:
    """Customers, and the models that were made of them below one folder."""

    features: pd.DataFrame
    folder: str

    def publish(self, hyper_parameters, features=None, content=None, **changes):
        """Lay down a model as the task ``train`` does, without what takes long; return what it hands over."""
        training, holdout = churn_model.split(self.features if features is None else features)
        model = churn_model.train(training, hyper_parameters, seed=1)
        config = churn_model.make_classifier(hyper_parameters, seed=1).get_params() | {"holdout_salt": "churn-v1"}
        digests = tracking.digest_inputs(training, config)
        folder = f"{self.folder}/models/{digests['inputs_sha256'][:16]}"
        metrics = {"cv_roc_auc_mean": 0.5, "cv_roc_auc_std": 0.1, "cv_parts": 5.0}
        metrics |= churn_model.evaluate(model, training, prefix="training_")
        metrics |= churn_model.evaluate(model, holdout, prefix="holdout_")
        stored = StoredObject.write(f"{folder}/model.skops", content or churn_model.dump_model(model))
        about = TrainedModel(
            model=stored,
            columns=churn_model.FEATURE_COLUMNS,
            training_customers=stored,
            drift_reference=stored,
            dag_run=RUN,
            digests=digests,
            config=config,
            metrics=metrics,
        ).model_copy(update=changes)
        data = about.model_dump_json().encode()
        reference = ModelReference("churn_classifier", "model.skops", "d", stored.sha256)
        return {
            "about": {"uri": f"{folder}/about.json", "sha256": write_object(f"{folder}/about.json", data)},
            "sha256": stored.sha256,
            "reference": asdict(reference),
            "server": None,
            "wandb_run_id": run_id_for(DAG, RUN),
            "wandb_run": "/somewhere",
        }

    def judge(self, trained, features=None):
        return gate.judge(self.features if features is None else features, trained, RUN)

    def champion(self):
        return json.loads(object_path(gate.champion_uri()).read_bytes())

    def record(self, trained):
        folder = trained["about"]["uri"].rpartition("/")[0]
        return json.loads(object_path(f"{folder}/gate/{RUN}.json").read_bytes())


@pytest.fixture
def shop(stack_connections, monkeypatch, tmp_path, request, caplog):
    name = f"gate-{abs(hash(request.node.name)):x}"
    own = Settings(churn=ChurnSettings(model_bucket="churn-gate", artifact_name=name))
    for module in (records, gate, tracking):
        monkeypatch.setattr(module, "settings", own)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    buckets = [bucket["Name"] for bucket in stack_connections.s3.list_buckets()["Buckets"]]
    if "churn-gate" not in buckets:
        stack_connections.s3.create_bucket(Bucket="churn-gate")
    object_path(gate.champion_uri()).exists()  # Airflow sets up its logging, so that caplog can do so after it
    caplog.set_level(logging.INFO)
    return Shop(make_customers(600), records.churn_folder())


@pytest.fixture
def reigning(shop):
    """A shop with a good champion."""
    trained = shop.publish(GOOD)
    shop.judge(trained)
    return trained


def assert_decided(shop, decided, trained, outcome, promoted, words, caplog):
    decision, champion = decided
    assert (decision.outcome, decision.promoted) == (outcome, promoted)
    assert words in decision.reason
    version = f"churn_classifier@sha256:{trained['sha256'][:12]}"
    assert f"{version} is {decision.reason}" in caplog.text
    assert shop.record(trained)["outcome"] == outcome
    if promoted:
        assert champion is not None
        assert champion.version == version
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
    assert decided[1].trained.model.sha256 == reigning["sha256"]
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


def test_the_same_model_again_changes_nothing(shop, reigning, caplog):
    before = shop.champion()
    decision, _ = shop.judge(shop.publish(GOOD))
    assert (decision.outcome, decision.promoted) == ("champion_already", True)
    assert "is the champion already" in caplog.text
    assert shop.champion() == before
    assert shop.record(reigning)["outcome"] == "first_model"


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
    changed = shop.champion()
    changed["trained"]["model"] = evil.model_dump()
    write_object(gate.champion_uri(), json.dumps(changed).encode())
    trained = shop.publish(BAD)
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, "cannot be loaded", caplog)
    assert "Stranger" in caplog.text


def test_champion_with_other_columns(shop, reigning, caplog):
    changed = shop.champion()
    changed["trained"]["columns"] = ["number_of_orders", "age"]
    write_object(gate.champion_uri(), json.dumps(changed).encode())
    trained = shop.publish(BAD)
    words = "takes other columns, number_of_orders, age"
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, words, caplog)


def test_champion_whose_record_is_damaged(shop, reigning, caplog):
    write_object(gate.champion_uri(), b'{"trained":')
    with pytest.raises(InputError, match=r"cannot be read: champion\.json is damaged: run customer_analytics without"):
        gate.champion_for_scoring()
    trained = shop.publish(BAD)
    assert_decided(shop, shop.judge(trained), trained, "champion_unusable", True, "cannot be read", caplog)


def test_holdout_too_small(shop, caplog):
    few = make_customers(24, seed=1)
    trained = shop.publish(GOOD, features=few)
    decided = shop.judge(trained, features=few)
    assert_decided(shop, decided, trained, "holdout_too_small", False, "holdout rows cannot tell models apart", caplog)


def test_a_champion_made_offline_is_known_by_its_version_once_it_is_published(shop, reigning, monkeypatch):
    """What online publishing adds; the server's part is in test_churn_online."""
    trained = shop.publish(GOOD)
    online = {**trained["reference"], "version": "v0", "qualified_name": "acme/customer_churn/churn_classifier:v0"}
    _, champion = shop.judge(trained | {"reference": online, "server": "http://somewhere", "wandb_run": "http://run"})
    assert champion.version == "churn_classifier:v0"
    assert (shop.champion()["server"], shop.champion()["wandb_run"]) == ("http://somewhere", "http://run")


def test_a_key_that_came_between_train_and_gate_is_explained(shop, monkeypatch):
    trained = shop.publish(GOOD)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with pytest.raises(InputError, match="clear task train"):
        shop.judge(trained)


def test_a_model_that_was_damaged_is_made_again(shop, caplog):
    features = make_customers(80)
    first = tracking.train(features, RUN, {"n_estimators": 5}, None, {}, dag_id=DAG)
    write_object(first["model_uri"], b"damaged")

    again = tracking.train(features, "another run", {"n_estimators": 5}, None, {}, dag_id=DAG)

    assert "it is damaged, so it is made again" in caplog.text
    assert again["sha256"] == first["sha256"]
    assert churn_model.load_model(object_path(first["model_uri"]).read_bytes(), first["sha256"])


def test_customers_that_lack_a_column_of_the_champion_are_not_scored(shop, reigning):
    _, champion = shop.judge(shop.publish(GOOD))
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

        decision, champion = shop.judge(trained)
        handed_over = {"champion": champion.handed_over(), "trained_online": True}
        predictions, _ = tracking.predict(shop.features, handed_over, RUN, "pred_churn", dag_id=DAG)

        assert decision.promoted
        assert shop.champion()["reference"] == trained["reference"]
        assert len(predictions) == len(shop.features)
        assert "The alias champion is not given" in caplog.text
        assert "is no longer in W&B, somebody has deleted it" in caplog.text
        assert f"taken from {trained['model_uri']}" in caplog.text
        assert server.run(trained["wandb_run_id"]).summary["predictions/rows"] == len(shop.features)
    assert server.problems == []
