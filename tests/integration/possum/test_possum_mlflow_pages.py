"""What a user finds on MLflow's pages: descriptions, names, tags and the model card, with the figures of the very runs."""

import pytest

from include.object_store import sha256_hex
from include.provenance import code_digest
from include.settings import INCLUDE, settings
from tests.support.local_stack import RunningStack
from tests.support.possum_runs import Round, champion_version, mlflow_runs, versions_of_run

NOTE = "mlflow.note.content"


@pytest.fixture(scope="module")
def made_with() -> dict[str, str]:
    """The tags that name code and packages."""
    return {"code_sha256": code_digest("possum"), "lock_sha256": sha256_hex((INCLUDE.parent / "uv.lock").read_bytes())}


@pytest.fixture(scope="module")
def run(stack: RunningStack, first: Round, by_hand: str):
    """The training run of the first round."""
    return stack.mlflow.get_run(first.trained["run_id"])


@pytest.fixture(scope="module")
def version(stack, run):
    (number,) = versions_of_run(stack, run.info.run_id)
    return stack.mlflow.get_model_version(settings.possum.registered_model_name, str(number))


@pytest.fixture(scope="module")
def card(stack, run) -> str:
    return stack.object(f"s3://{settings.mlflow_artifact_bucket}/{run.info.run_id}/artifacts/model_card.md").decode()


def test_experiments_description_explains_its_runs(stack, run):
    note = stack.mlflow.get_experiment(run.info.experiment_id).tags[NOTE]
    for words in ("Tail length of possums", "*Scaler*", "*RidgeCV*", "*Drift check*"):
        assert words in note


def test_all_runs_have_one_of_three_names_and_a_description(stack, run):
    runs = stack.mlflow.search_runs([run.info.experiment_id])
    assert {each.info.run_name for each in runs} == {"Scaler", "RidgeCV", "Drift check"}
    assert [each.info.run_id for each in runs if not each.data.tags.get(NOTE)] == []
    assert {each.data.tags["step"] for each in runs} == {"feature engineering", "training", "drift check"}


def test_scalers_description_counts_the_animals(stack, first, run, made_with):
    scaler = stack.mlflow.get_run(first.features["scaler_run_id"])
    note = scaler.data.tags[NOTE]
    assert "the 80 training animals of 101 complete ones, of 104 in the file" in note
    assert made_with.items() <= scaler.data.tags.items()


def test_trainings_description_has_the_runs_own_figures(run, made_with):
    note, m = run.data.tags[NOTE], run.data.metrics
    assert f"on 80 animals, with the penalty alpha = {m['best_alpha']:.3g}" in note
    cross_validated = f"{m['cv_r2_mean']:.2f} ± {m['cv_r2_std']:.2f}"
    assert (
        f"| cross-validated | {cross_validated} | {m['cv_rmse_cm_mean']:.2f} ± {m['cv_rmse_cm_std']:.2f} cm |" in note
    )
    assert f"| 21 holdout animals | {m['holdout_r2']:.2f} | {m['holdout_rmse_cm']:.2f} cm |" in note
    assert f"| predicting the mean for these | | {m['holdout_baseline_rmse_cm']:.2f} cm |" in note
    assert made_with.items() <= run.data.tags.items()


def test_drift_checks_description_is_its_finding(stack, first, run):
    (check,) = mlflow_runs(stack, f"predict/{first.predict}/check_drift")
    p = check.data.metrics["drift_p_value"]
    assert f"looks like the training rows: p = {p:.3g} over 12 columns" in check.data.tags[NOTE]
    assert "artifact drift/report.html" in check.data.tags[NOTE]


def test_versions_description_has_its_figures(version, run):
    m = run.data.metrics
    assert version.description == (
        f"R² {m['cv_r2_mean']:.2f} ± {m['cv_r2_std']:.2f} and RMSE {m['cv_rmse_cm_mean']:.2f} cm cross-validated, "
        f"RMSE {m['holdout_rmse_cm']:.2f} cm on 21 holdout animals. Model card: artifact model_card.md of the run."
    )


def test_versions_tags_name_data_code_and_packages(version, first, made_with):
    data = {
        name: first.features[name] for name in ("features_sha256", "animals_sha256", "features_uri", "scaler_run_id")
    }
    assert (data | made_with).items() <= version.tags.items()
    assert {"gate.decision", "gate.outcome", "gate.reason", "gate.newcomer_loss"} <= version.tags.keys()


def test_registered_model_says_what_it_is_for_and_which_version_is_used(stack, version):
    model = stack.mlflow.get_registered_model(settings.possum.registered_model_name)
    assert "Tail length of mountain brushtail possums in cm, from site, Pop, sex, age" in model.description
    assert f"`models:/{settings.possum.registered_model_name}@champion`" in model.description
    expected = {"project": "possum", "task": "regression", "target": "tail length [cm]"}
    assert expected.items() <= model.tags.items()
    assert model.aliases == {"champion": champion_version(stack)}


def test_champion_is_a_version_that_was_promoted(stack, version):
    champion = stack.mlflow.get_model_version(settings.possum.registered_model_name, champion_version(stack))
    assert champion.tags["gate.decision"] == "promoted"
    assert champion.aliases == ["champion"]


def test_model_card_has_the_runs_own_figures(card, run, version):
    m = run.data.metrics
    assert card.startswith(f"# {settings.possum.registered_model_name}, version {version.version}\n")
    spread = {name: f"{m[f'cv_{name}_mean']:.2f} ± {m[f'cv_{name}_std']:.2f}" for name in ("r2", "rmse_cm")}
    rows = [
        f"| 80 training animals, cross-validated (5-fold, 20 times) | {spread['r2']} | {spread['rmse_cm']} cm "
        f"| {m['cv_baseline_rmse_cm_mean']:.2f} cm |",
        f"| 21 holdout animals, never trained on | {m['holdout_r2']:.2f} | {m['holdout_rmse_cm']:.2f} cm "
        f"| {m['holdout_baseline_rmse_cm']:.2f} cm |",
        f"| 80 training animals, as trained on | {m['training_r2']:.2f} | {m['training_rmse_cm']:.2f} cm | |",
        f"| Penalty chosen | alpha = {m['best_alpha']:.4g}, of 30 between 0.001 and 10 unless the parameters say otherwise |",
    ]
    for row in rows:
        assert row in card.splitlines()
    in_one_line = " ".join(card.split())
    assert f"left out of training, the error for its animals is {m['site_out_rmse_cm']:.2f} cm." in in_one_line


def test_model_card_names_data_code_packages_run_and_verdict(card, first, run, version, made_with):
    rows = [
        f"| Data | {first.features['features_uri']} |",
        f"| Digest of the features | {first.features['features_sha256']} |",
        f"| Digest of the animals | {first.features['animals_sha256']} |",
        f"| Code, packages | {made_with['code_sha256']}, {made_with['lock_sha256']} |",
        f"| MLflow run | {run.info.run_id} |",
        f"| Gate | {version.tags['gate.reason']} |",
    ]
    for row in rows:
        assert row in card.splitlines()
    assert "## What it must not be used for" in card
