"""Somebody has moved the alias champion in MLflow: to a version of this project, or to one that has nothing to do with it."""

import mlflow
import mlflow.sklearn
import pytest
from mlflow.models import infer_signature
from sklearn.dummy import DummyRegressor

from include.errors import InputError
from include.possum.animals import input_columns
from include.possum.baseline import choose_model
from include.possum.champion import describe_champion


@pytest.fixture(autouse=True)
def own_registry(possums) -> None:
    possums.begin_afresh()


def foreign_version(possums, animals, *, with_run: bool = True) -> str:
    """Of a run of one's own."""
    inputs = animals.dropna(ignore_index=True)[input_columns()]
    model = DummyRegressor().fit(inputs, [36.0] * len(inputs))
    experiment = possums.client.create_experiment(f"own-{possums.name}", artifact_location=f"{possums.folder}/own")
    signature = infer_signature(inputs, model.predict(inputs))
    with mlflow.start_run(experiment_id=experiment) as run:
        info = mlflow.sklearn.log_model(model, name="model", signature=signature, pip_requirements=[])
    source = possums.client.get_logged_model(info.model_id).artifact_location
    return possums.register({"run_id": run.info.run_id if with_run else None, "source": source})


@pytest.mark.parametrize("with_run", [True, False])
def test_a_foreign_champion_is_refused_by_gate_and_predict_until_the_alias_is_moved(possums, animals, with_run):
    told = possums.whole_round(animals)
    version = foreign_version(possums, animals, with_run=with_run)
    possums.client.set_registered_model_alias(possums.name, "champion", version)
    reference = possums.feature_eng(animals)
    challenger = possums.register(possums.train(reference, alphas=[1.0]))
    refusals = [
        lambda: possums.judge(reference, challenger),
        describe_champion,
        lambda: choose_model(told, by_hand=True, other_animals=False, score_anyway=False),
    ]

    for refusal in refusals:
        words = rf"Version {version} of {possums.name}, which has the alias champion, was not made by this DAG: in MLflow move"
        with pytest.raises(InputError, match=words) as refused:
            refusal()
        assert "gate.*" in str(refused.value)
    assert "gate.decision" not in possums.tags(challenger)

    possums.client.delete_registered_model_alias(possums.name, "champion")

    assert possums.judge(reference, challenger).outcome == "first_model"
    assert choose_model(told, by_hand=True, other_animals=False, score_anyway=False)["version"] == challenger


def test_a_run_of_predict_that_an_event_has_triggered_uses_the_events_model_whatever_the_alias(possums, animals):
    told = possums.whole_round(animals)
    possums.client.set_registered_model_alias(possums.name, "champion", foreign_version(possums, animals))

    assert choose_model(told, by_hand=False, other_animals=False, score_anyway=False) == told


@pytest.mark.faults
def test_an_older_version_of_this_project_is_a_champion_like_any_other(possums, animals):
    first = possums.whole_round(animals, alphas=[1.0])
    second = possums.whole_round(animals, alphas=[0.9])
    assert second["version"] != first["version"]
    possums.client.set_registered_model_alias(possums.name, "champion", first["version"])

    assert describe_champion()["version"] == first["version"]
    reference = possums.feature_eng(animals)
    challenger = possums.register(possums.train(reference, alphas=[1.2]))
    possums.judge(reference, challenger)
    assert possums.tags(challenger)["gate.champion_before"] == first["version"]


def test_a_version_that_was_never_judged_gets_its_record_and_card(possums, animals):
    reference = possums.feature_eng(animals)
    version = possums.register(possums.train(reference))
    possums.client.set_registered_model_alias(possums.name, "champion", version)

    assert possums.judge(reference, version).outcome == "champion_already"

    tags = possums.tags(version)
    assert (tags["gate.decision"], tags["gate.outcome"]) == ("promoted", "champion_already")
    run = possums.client.get_model_version(possums.name, version).run_id
    assert "model_card.md" in [each.path for each in possums.client.list_artifacts(run)]
    assert describe_champion()["version"] == version


@pytest.mark.faults
def test_the_champion_judged_again_keeps_its_record_and_gets_its_card_back(possums, animals):
    told = possums.whole_round(animals)
    tags = possums.tags(told["version"])
    card = possums.folder / possums.name / told["run_id"] / "artifacts" / "model_card.md"
    written = card.read_text()
    card.unlink()

    decision = possums.judge(possums.feature_eng(animals), told["version"])

    assert decision.promoted
    assert possums.tags(told["version"]) == tags
    assert tags["gate.outcome"] == "first_model"
    assert card.read_text() == written


@pytest.mark.faults
def test_a_version_judged_again_has_no_figures_of_its_former_judgement(possums, animals):
    reference = possums.feature_eng(animals)
    good, worse = (possums.register(possums.train(reference, alphas=[alpha])) for alpha in (1.0, 1e3))
    possums.judge(reference, good)
    assert possums.judge(reference, worse).outcome == "worse"
    possums.client.delete_registered_model_alias(possums.name, "champion")

    decision = possums.judge(reference, worse)

    figures = {name for name in possums.tags(worse) if name.startswith("gate.")}
    assert figures == {
        f"gate.{name}" for name in ("decision", "outcome", "reason", "champion_before", *decision.figures)
    }


@pytest.mark.faults
def test_a_version_that_was_registered_by_its_logged_models_id_is_read_from_its_files(possums, animals):
    told = possums.whole_round(animals)
    (model,) = possums.client.search_logged_models([possums.experiment], f"source_run_id = '{told['run_id']}'")
    version = possums.client.create_model_version(possums.name, model.model_uri, told["run_id"]).version
    possums.client.set_registered_model_alias(possums.name, "champion", str(version))

    described = describe_champion()

    assert (described["version"], described["model_uri"]) == (str(version), told["model_uri"])
