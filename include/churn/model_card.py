"""The model card: what a reader must know before trusting a model, from the training's own figures."""

from collections.abc import Mapping
from typing import Any

CARD_FILE = "model_card.md"
CARD = """# {name}, model {inputs}

Probability that a customer of the shop has churned, from {columns}. Churned means: the last month paid for is over by the
as-of date (include/customer_churn_month.sql).

| | |
|---|---|
| Method | random forest: {n_estimators} trees, depth {max_depth}, at least {min_samples_leaf} customers in a leaf |
| Features, SHA-256 | {features_sha256} |
| Model, SHA-256 | {model_sha256} |
| Code, SHA-256 | {code_sha256} |
| Packages (uv.lock), SHA-256 | {lock_sha256} |
| Trained by | run {dag_run} of the DAG customer_analytics |
| Gate | {gate} |

## How good it is

| Rows | AUC | Accuracy | Always the more frequent class | Brier score | Always the churned share |
|---|---|---|---|---|---|
| {training_rows:,.0f} training customers, cross-validated in {cv_parts:.0f} parts | \
{cv_roc_auc_mean:.2f} ± {cv_roc_auc_std:.2f} | | | | |
| {holdout_rows:,.0f} held-out customers, never trained on | {holdout_roc_auc:.2f} | {holdout_accuracy:.2f} | \
{holdout_baseline_accuracy:.2f} | {holdout_brier:.3f} | {holdout_baseline_brier:.3f} |
| {training_rows:,.0f} training customers, as trained on | {training_roc_auc:.2f} | {training_accuracy:.2f} | \
{training_baseline_accuracy:.2f} | {training_brier:.3f} | {training_baseline_brier:.3f} |

Guessing has an AUC of 0.50. The spread is the standard deviation over the parts. Churned are {training_churn_share:.0%} of the
training customers and {holdout_churn_share:.0%} of the held-out ones; a hash of customer_id (salt {holdout_salt}) says who is
held out, so that no customer ever changes sides. The figures for training rows show what the model has memorised.

## What it must not be used for

- Customers of another shop or another time: the two features are counts and sums since the shop opened, so a batch of
  younger customers looks as if they bought little. The drift check of each scoring tells.
- Decisions about a single customer: of two customers, one who churns and one who stays, it ranks the right one higher in
  about {cv_roc_auc_mean:.0%} of the cases, no more.
- Why somebody leaves: number of orders and sum of payments go together with churn, they need not cause it.
- Judging it by the rows that pred_churn marks as used_for_training.

## Where the data come from

The shop's five CSVs, as of the DAG run above; those in include/data are invented (include/churn/generate.py). Orders and
payments that belong to nobody are left out; the log of task left_out.describe counts them. Plots, the customers trained on and
the reference for drift checks lie beside the model in the object store.
"""


def render_card(about: Mapping[str, Any], name: str, gate: str | None = None) -> str:
    """The card in Markdown.

    Args:
        about: a TrainedModel as a dict.
        name: of the artifact.
        gate: the gate's reason; None for a model that has not been judged yet.

    """
    return CARD.format(
        **about["metrics"],
        **{key: about["config"][key] for key in ("n_estimators", "max_depth", "min_samples_leaf", "holdout_salt")},
        **{key: about["digests"][key] for key in ("features_sha256", "code_sha256", "lock_sha256")},
        name=name,
        inputs=about["digests"]["inputs_sha256"][:16],
        model_sha256=about["model"]["sha256"],
        columns=", ".join(about["columns"]),
        dag_run=about["dag_run"],
        gate=gate or "judged after it was published: see gate/ in the run's summary, and the card in the object store",
    )
