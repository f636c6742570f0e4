"""What a finished run has left was removed or changed by somebody: the next run makes it again, or says once what helps."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from include.errors import InputError
from include.possum import scoring
from include.possum.baseline import choose_model
from include.possum.champion import describe_champion

ANSWERS = ("features_sha256", "animals_sha256", "trained_on_sha256", "metrics", "better_than_baseline", "champion_loss")


def local(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def remove_models_folder(possums, told) -> None:
    """As a lifecycle rule on models/ does."""
    for path in (possums.folder / possums.name / "models").rglob("*"):
        if path.is_file():
            path.unlink()


def remove_file(name: str) -> Callable:
    def remove(possums, told) -> None:
        local(f"{told['model_uri']}/{name}").unlink()

    remove.__name__ = f"remove-{name}"
    return remove


def change_file(name: str) -> Callable:
    def change(possums, told) -> None:
        with local(f"{told['model_uri']}/{name}").open("ab") as file:
            file.write(b"\nevil==1.0\n")

    change.__name__ = f"change-{name}"
    return change


def remove_runs_artifacts(possums, told) -> None:
    for path in local(told["trained_on_uri"]).parents[1].rglob("*"):
        if path.is_file():
            path.unlink()


def remove_drift_reference(possums, told) -> None:
    (local(told["trained_on_uri"]).parents[1] / "drift" / "reference.csv").unlink()


def remove_logged_model(possums, told) -> None:
    (model,) = possums.client.search_logged_models([possums.experiment], f"source_run_id = '{told['run_id']}'")
    possums.client.delete_logged_model(model.model_id)


def remove_run(possums, told) -> None:
    possums.client.delete_run(told["run_id"])


def remove_version(possums, told) -> None:
    possums.client.delete_model_version(possums.name, told["version"])


def remove_registered_model(possums, told) -> None:
    possums.client.delete_registered_model(possums.name)


def remove_scaler_and_objects(possums, told) -> None:
    for name in ("features_uri", "animals_uri"):
        local(told[name]).unlink()
    for path in local(told["scaler_model_uri"]).iterdir():
        path.unlink()


DAMAGE = [
    remove_models_folder,
    *(remove_file(name) for name in ("MLmodel", "model.skops", "requirements.txt", "conda.yaml", "input_example.json")),
    *(change_file(name) for name in ("MLmodel", "model.skops", "requirements.txt", "conda.yaml")),
    remove_runs_artifacts,
    remove_drift_reference,
    remove_logged_model,
    remove_run,
    remove_version,
    remove_registered_model,
    remove_scaler_and_objects,
]


@pytest.mark.parametrize(
    "damage",
    [pytest.param(damage, marks=[pytest.mark.faults] if number else []) for number, damage in enumerate(DAMAGE)],
    ids=lambda damage: damage.__name__,
)
def test_the_next_round_on_the_same_animals_ends_with_a_whole_champion_of_the_same_figures(possums, animals, damage):
    before = possums.whole_round(animals)
    damage(possums, before)

    after = possums.whole_round(animals)

    assert {name: after[name] for name in ANSWERS} == {name: before[name] for name in ANSWERS}
    for by_hand in (False, True):
        assert choose_model(after, by_hand=by_hand, other_animals=False, score_anyway=False) == after
    batch, target = scoring.read_batch(after, ""), scoring.read_target(after, "")
    assert (len(batch), target["used_for_training"].sum()) == (101, 80)
    assert possums.tags(after["version"])["gate.decision"] == "promoted"


def test_requirements_that_predict_has_added_are_no_damage(possums, animals):
    from include.mlflow_files import ADDED_PACKAGES
    from include.model_requirements import add_requirements

    told = possums.whole_round(animals)
    add_requirements(told["model_uri"], *ADDED_PACKAGES)

    assert choose_model(told, by_hand=False, other_animals=False, score_anyway=False) == told
    assert possums.whole_round(animals)["run_id"] == told["run_id"]


def test_what_was_damaged_is_named_in_the_log(possums, animals, caplog):
    told = possums.whole_round(animals)
    remove_file("model.skops")(possums, told)

    with caplog.at_level(logging.WARNING):
        possums.whole_round(animals)

    missing = f"{told['model_uri']}/model.skops does not exist"
    assert f"MLflow run {told['run_id']} did the same, but cannot be used any more: {missing}" in caplog.messages


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_models_folder, r"/models/.* does not exist"),
        (change_file("model.skops"), r"/model\.skops has changed"),
        (remove_drift_reference, r"/drift/reference\.csv does not exist"),
        (remove_run, r"MLflow run \w+ is deleted"),
        (remove_logged_model, r"the logged model m-\w+ of MLflow run \w+ is deleted"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_predict_refuses_what_is_gone_at_its_first_task_and_names_a_remedy(possums, animals, damage, words):
    told = possums.whole_round(animals)
    damage(possums, told)

    for by_hand in (True, False):
        with pytest.raises(
            InputError, match=rf"Version {told['version']} of {possums.name} cannot be used: .*({words})"
        ) as refused:
            choose_model(told, by_hand=by_hand, other_animals=False, score_anyway=False)
        assert "Trigger feature_eng" in str(refused.value)


@pytest.mark.faults
def test_predict_by_hand_uses_the_version_that_somebody_has_moved_the_alias_to(possums, animals):
    first = possums.whole_round(animals)
    newer = possums.whole_round(animals, alphas=[2.0])
    assert newer["version"] != first["version"]

    possums.client.set_registered_model_alias(possums.name, "champion", first["version"])

    by_hand = choose_model(newer, by_hand=True, other_animals=False, score_anyway=False)
    assert by_hand == newer | {name: first[name] for name in first if not name.startswith(("features", "animals"))}
    by_event = choose_model(newer, by_hand=False, other_animals=False, score_anyway=False)
    assert by_event["version"] == newer["version"]


def test_predict_by_hand_without_a_champion_says_how_to_get_one(possums, animals):
    told = possums.whole_round(animals)
    possums.client.delete_registered_model_alias(possums.name, "champion")

    with pytest.raises(InputError, match=f"No version of {possums.name} has the alias champion"):
        choose_model(told, by_hand=True, other_animals=False, score_anyway=False)


def test_a_transformer_that_is_gone_between_the_dags_is_refused_with_what_helps(possums, animals):
    reference = possums.feature_eng(animals)
    local(f"{reference['scaler_model_uri']}/model.skops").unlink()

    with pytest.raises(InputError, match=r"transformer cannot be used: .*does not exist. Trigger feature_eng"):
        possums.train(reference, alphas=[3.0])

    assert possums.train(possums.feature_eng(animals), alphas=[3.0])["metrics"]["rows_training"] == 80


@pytest.mark.faults
def test_a_new_version_that_loses_files_before_it_is_judged_is_refused_with_what_helps(possums, animals):
    possums.begin_afresh()
    reference = possums.feature_eng(animals)
    trained = possums.train(reference)
    version = possums.register(trained)
    local(f"{trained['source']}/model.skops").unlink()

    with pytest.raises(InputError, match=r"Version 1 of .* cannot be used: .*does not exist\. Trigger train"):
        possums.judge(reference, version)

    again = possums.register(possums.train(reference))
    assert possums.judge(reference, again).promoted


def test_a_version_that_is_no_longer_registered_is_refused_with_what_helps(possums, animals):
    possums.whole_round(animals)

    with pytest.raises(InputError, match=r"Version 99 of .* is not registered any more: trigger train"):
        possums.judge(possums.feature_eng(animals), "99")


@pytest.mark.faults
def test_a_champion_whose_run_is_deleted_gives_way(possums, animals):
    possums.begin_afresh()
    told = possums.whole_round(animals)
    remove_run(possums, told)

    reference = possums.feature_eng(animals)
    version = possums.register(possums.train(reference, alphas=[2.0]))

    assert possums.judge(reference, version).outcome == "champion_unusable"
    assert possums.champion() == version
    assert f"(version 1) cannot be used: MLflow run {told['run_id']} is deleted" in possums.tags(version)["gate.reason"]


@pytest.mark.faults
def test_a_champion_that_is_gone_and_a_new_model_that_is_no_good_end_in_one_refusal(possums, animals):
    possums.begin_afresh()
    remove_run(possums, possums.whole_round(animals))
    reference = possums.feature_eng(animals.assign(taill=animals["taill"].sample(frac=1, random_state=1).to_numpy()))
    decision = possums.judge(reference, possums.register(possums.train(reference)))
    assert decision.outcome == "worse_than_baseline"

    with pytest.raises(InputError, match=r"Version 1 of .* cannot be used: .* is deleted\. .*move the alias champion"):
        describe_champion()
