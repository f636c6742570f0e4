"""What somebody else has deleted or changed of the churn models: the next run repairs it, or says what to do.

On the real object store; the tests call what the tasks call.
"""

import json

import pytest

from include.churn import champion as gate
from include.churn import tracking
from include.errors import InputError
from include.object_store import object_path, read_object, write_object
from tests.integration.churn.shop import DAG, RUN, folder_of

pytestmark = pytest.mark.faults

SMALL = {"n_estimators": 5}
GOOD = {"n_estimators": 40}
GONE = None
OTHER = b"something else"
NOWHERE = {"uri": "s3://churn-gate/nowhere", "sha256": "0" * 64}


def train_and_judge(shop, dag_run):
    trained = tracking.train(shop.features, dag_run, SMALL, None, {}, dag_id=DAG)
    return trained, *gate.judge(shop.features, trained, dag_run)


def score(shop, handed_over, dag_run):
    """The tasks fetch_champion and predict."""
    gate.require_worth(handed_over, score_anyway=False)
    predictions, _ = tracking.predict(shop.features, handed_over.dump(), dag_run, "pred_any", dag_id=DAG)
    return predictions


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.skops", GONE),
        ("training_customers.parquet", OTHER),
        ("drift_reference.parquet", GONE),
        ("plots/roc.png", OTHER),
        ("about.json", GONE),
        ("about.json", OTHER),
        ("model_card.md", GONE),
    ],
)
def test_a_file_of_the_champion_is_made_again_by_the_next_run(shop, quick, name, content):
    trained, *_ = train_and_judge(shop, RUN)
    before = shop.objects()
    uri = f"{folder_of(trained)}/{name}"
    if content is GONE:
        object_path(uri).unlink()
    else:
        write_object(uri, content)

    _, decision, handed_over = train_and_judge(shop, "another")

    assert decision.outcome == "champion_already"
    after = shop.objects()
    assert after.keys() == before.keys()
    key = uri.removeprefix(f"{shop.folder}/")
    if name in ("about.json", "model_card.md"):  # these two name the run that has made them
        assert b"another" in after[key] or after[key] == before[key]
    else:
        assert after[key] == before[key]
    assert "promoted: beats the trivial answer, and there is no champion" in shop.card(trained)
    assert len(score(shop, handed_over, "another")) == len(shop.features)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"dag_run"', '"dag_run" '),
        lambda text: text.replace('"inputs_sha256": "', '"inputs_sha256": "0'),
        lambda text: json.dumps(json.loads(text) | {"metrics": {}}),
        lambda text: text[: len(text) // 2],
    ],
    ids=["a blank", "another digest", "no metrics", "half of it"],
)
def test_a_record_that_was_edited_is_written_again(shop, quick, edit, caplog):
    trained, *_ = train_and_judge(shop, RUN)
    uri = trained["about"]["uri"]
    before = read_object(uri).decode()
    write_object(uri, edit(before).encode())

    train_and_judge(shop, "another")

    assert "it is damaged, so it is made again" in caplog.text
    assert json.loads(read_object(uri)) == json.loads(before) | {"dag_run": "another"}


def test_a_champion_json_that_is_gone_is_written_again(shop, quick):
    train_and_judge(shop, RUN)
    object_path(gate.champion_uri()).unlink()

    _, decision, _ = train_and_judge(shop, "another")

    assert decision.outcome == "first_model"
    assert shop.champion()["dag_run"] == "another"


@pytest.mark.parametrize("changes", [{"drift_reference": NOWHERE}, {"training_customers": NOWHERE, "metrics": {}}])
def test_a_champion_json_that_was_edited_is_repaired_where_the_same_model_is_trained(shop, quick, changes):
    train_and_judge(shop, RUN)
    before = shop.champion()
    shop.edit_champion(**changes)

    train_and_judge(shop, "another")

    assert shop.champion() == before


@pytest.mark.parametrize("name", ["model.skops", "training_customers.parquet", "drift_reference.parquet"])
def test_a_champion_of_which_a_file_is_gone_makes_way_for_another_model(shop, caplog, name):
    reigning = shop.publish(GOOD)
    shop.judge(reigning)
    object_path(f"{folder_of(reigning)}/{name}").unlink()
    with pytest.raises(InputError, match=r"cannot be loaded: run customer_analytics without score_only, which trains"):
        gate.champion_for_scoring()
    assert f"{name} does not exist" in caplog.text

    decision, handed_over = shop.judge(shop.publish(SMALL), dag_run="another")

    assert decision.outcome == "champion_unusable"
    assert len(score(shop, handed_over, "another")) == len(shop.features)
    assert gate.champion_for_scoring() == handed_over.champion


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"uri": "s3://no-such-bucket/model.skops", "sha256": "0" * 64}, "cannot be loaded"),
        ({"uri": "gs://bucket/model.skops", "sha256": "0" * 64}, "champion.json is damaged"),
    ],
)
def test_a_champion_json_that_points_elsewhere_makes_way_for_another_model(shop, model, words):
    shop.judge(shop.publish(GOOD))
    shop.edit_champion(model=model)

    decision, _ = shop.judge(shop.publish(SMALL), dag_run="another")

    assert decision.outcome == "champion_unusable"
    assert words in decision.reason


def test_the_next_run_starts_with_a_first_model_where_all_is_gone(shop, quick):
    train_and_judge(shop, RUN)
    for key in shop.objects():
        object_path(f"{shop.folder}/{key}").unlink()

    _, decision, _ = train_and_judge(shop, "another")

    assert decision.outcome == "first_model"
