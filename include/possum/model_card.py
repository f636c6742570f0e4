"""The model card of a registered version, made from its own run."""

import mlflow

from include.links import MLflowModelLink, MLflowRunLink, model_url, record_link, run_url
from include.settings import settings

CARD = """# {name}, version {version}

Tail length of mountain brushtail possums in cm, from {inputs}.

| | |
|---|---|
| Method | {estimator}: one-hot categories and standardised measurements, fitted on training rows only |
| Penalty chosen | alpha = {best_alpha:.4g}, of 30 between 0.001 and 10 unless the parameters say otherwise |
| Data | {features_uri} |
| Digest of the features | {features_sha256} |
| Digest of the animals | {animals_sha256} |
| Code, packages | {code_sha256}, {lock_sha256} |
| MLflow run | {run_id} |
| Gate | {gate} |

## How good it is

| Rows | R² | RMSE | Predicting the mean, RMSE |
|---|---|---|---|
| {rows_training:.0f} training animals, cross-validated (5-fold, {cv_repeats:.0f} times) | {cv_r2_mean:.2f} ± {cv_r2_std:.2f} \
| {cv_rmse_cm_mean:.2f} ± {cv_rmse_cm_std:.2f} cm | {cv_baseline_rmse_cm_mean:.2f} cm |
| {rows_holdout:.0f} holdout animals, never trained on | {holdout_r2:.2f} | {holdout_rmse_cm:.2f} cm \
| {holdout_baseline_rmse_cm:.2f} cm |
| {rows_training:.0f} training animals, as trained on | {training_r2:.2f} | {training_rmse_cm:.2f} cm | |

The spread is the standard deviation over the parts. With so few animals one split says little; the figures for training
rows show what the model has memorised and not what it can predict.

## What it must not be used for

- Animals of a trapping site that is not among the data{site_out}.
- Other species, young animals, or measurements taken another way.
- Decisions about a single animal: two thirds of the predictions are within about {cv_rmse_cm_mean:.1f} cm, the others not.

## Where the data come from

Lindenmayer, Viggers, Cunningham and Donnelly (1995), Morphological variation among columns of the mountain brushtail possum,
Australian Journal of Zoology 43. Animals with a missing value are left out. Which animals are held out is decided by a hash
of their case number and does not change when animals are added.

The reference for drift checks, `drift/reference.csv`, is an artifact next to this card, and so is `training/animals.csv`: number
and SHA-256 of each animal that was trained on. So is the plot of predictions, `plots/{plot}`, once the version is the champion
and `predict` has run.
"""

SITE_OUT = """: when each site in turn is left out of training, the error for its
  animals is {:.2f} cm"""

DESCRIPTION = (
    "R² {cv_r2_mean:.2f} ± {cv_r2_std:.2f} and RMSE {cv_rmse_cm_mean:.2f} cm cross-validated, RMSE {holdout_rmse_cm:.2f} cm "
    "on {rows_holdout:.0f} holdout animals. Model card: artifact model_card.md of the run."
)

MODEL_DESCRIPTION = """\
Tail length of mountain brushtail possums in cm, from {inputs}.

The version with the alias **champion** is the one that `predict` uses: `models:/{name}@champion`. A new version becomes it only
if it passes the comparison on animals that neither was trained on; the tags `gate.*` of each version say why it did or did not.
Each version's figures are in its description, what it must not be used for is in `model_card.md` of its run.
"""
MODEL_TAGS = {"project": "possum", "task": "regression", "target": "tail length [cm]", "made_by": "Airflow DAG train"}


def write_model_card(version: str) -> str:
    """Write the card of a registered version as an artifact of its run, and its first figures as the version's description.

    Returns the artifact's path.
    """
    client = mlflow.MlflowClient()
    registered = client.get_model_version(settings.possum.registered_model_name, version)
    run = client.get_run(registered.run_id)
    site_out = run.data.metrics.get("site_out_rmse_cm")
    card = CARD.format(
        **run.data.metrics,
        **{key: run.data.tags[key] for key in ("features_uri", "features_sha256", "animals_sha256")},
        **{key: run.data.tags[key] for key in ("code_sha256", "lock_sha256")},
        name=registered.name,
        version=version,
        run_id=registered.run_id,
        estimator=run.data.tags["estimator_name"],
        gate=registered.tags.get("gate.reason", "not judged"),
        inputs=", ".join((*settings.possum.categorical_columns, *settings.possum.numeric_columns)),
        plot=settings.possum.plot_file_name,
        site_out=SITE_OUT.format(site_out) if site_out else "",
    )
    client.log_text(registered.run_id, card, "model_card.md")
    client.update_model_version(registered.name, version, DESCRIPTION.format(**run.data.metrics))
    describe_model(client)
    record_link(MLflowModelLink, model_url(registered.name, version))
    record_link(MLflowRunLink, run_url(run.info.experiment_id, registered.run_id))
    return "model_card.md"


def describe_model(client: mlflow.MlflowClient) -> None:
    """Description and tags of the registered model, for the registry's page; a description by someone else stays."""
    name = settings.possum.registered_model_name
    inputs = ", ".join((*settings.possum.categorical_columns, *settings.possum.numeric_columns))
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, MODEL_DESCRIPTION.format(name=name, inputs=inputs))
    for key, value in MODEL_TAGS.items():
        client.set_registered_model_tag(name, key, value)
