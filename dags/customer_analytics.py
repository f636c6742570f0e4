"""Churn, from CSVs to probabilities; what the DAG does, for its readers in the UI: include/docs/customer_analytics.md."""

import include.legacy_packages

import logging
from datetime import datetime
from typing import Any

import pandas as pd
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, chain, dag, task, task_group
from astro import sql as aql
from astro.table import Table

from include.buckets import EnsureBucketOperator
from include.churn.load import DIGEST, LoadCheckedFileOperator, warehouse_table
from include.dag_defaults import DEFAULT_ARGS, MAX_ACTIVE_TASKS
from include.dataset_events import hand_over
from include.datasets import DRIFT_DETECTED
from include.links import ObjectsLink, WandbRunLink, add_links
from include.settings import INCLUDE, settings
from include.sources import FOLDER_SOURCE, RULE
from include.task_errors import fail_at_once

log = logging.getLogger("airflow.task")

SOURCES = ("subscription_periods", "util_months", "customers", "orders", "payments")
FOR_LABEL = ("subscription_periods", "util_months")  # what scoring does without
ALSO_FOR_SCORING = "none_failed_min_one_success"  # runs where what only training needs is skipped
JUDGE = "promote_model.compare_with_champion"
# The tables that the SQL names: the loaded files, and the date on which customers are looked at
STAGING = {name: warehouse_table(f"stg_{name}") for name in SOURCES}
SQL_PARAMETERS = {
    "subscription_periods": STAGING["subscription_periods"],
    "util_months": STAGING["util_months"],
    "customers_table": STAGING["customers"],
    "orders_table": STAGING["orders"],
    "payments_table": STAGING["payments"],
}


@dag(
    schedule=None,
    start_date=datetime(2023, 1, 1),
    catchup=False,
    # the tables have one name each, so runs take turns
    max_active_runs=1,
    max_active_tasks=MAX_ACTIVE_TASKS,
    default_args=DEFAULT_ARGS,
    template_searchpath=str(INCLUDE),
    params={
        "source": Param(
            settings.churn.data_dir,
            type="string",
            pattern=FOLDER_SOURCE,
            description=f"Folder of the five CSVs: relative to include/, or s3://bucket/prefix; {RULE}",
        ),
        "score_only": Param(
            False,
            type="boolean",
            description="Train nothing: score the customers in source, of whom customers.csv, orders.csv and payments.csv "
            "are enough, with the champion",
        ),
        "predictions_table": Param(
            "pred_churn",
            type="string",
            pattern="^pred_[a-z0-9_]{1,50}$",
            description="The table that the predictions replace; its name begins with pred_",
        ),
        "score_anyway": Param(
            False,
            type="boolean",
            description="Score even though the champion is no better than the baseline on the present labelled holdout; each row "
            "then says so",
        ),
        "as_of_date": Param(
            None,
            type=["null", "string"],
            format="date",
            description="Who has not paid for this date's month or a later one has churned; empty: the latest date in the data",
        ),
        "hyper_parameters": Param(
            {},
            type="object",
            description="Arguments of scikit-learn's RandomForestClassifier in place of the default ones",
        ),
    },
    tags=["churn", "wandb", "training", "prediction"],
    doc_md=str(INCLUDE / "docs" / "customer_analytics.md"),
)
def customer_analytics() -> None:
    create_buckets_if_not_exists = EnsureBucketOperator.partial(
        task_id="create_buckets_if_not_exists",
        aws_conn_id=settings.aws_conn_id,
        map_index_template="{{ task.bucket_name }}",
        doc_md="Make the two buckets, one task each; those that are there stay as they are.",
    ).expand(bucket_name=[settings.xcom_bucket, settings.churn.model_bucket])

    @task_group
    def extract_and_load() -> None:
        for name in SOURCES:
            LoadCheckedFileOperator(
                task_id=f"load_{name}",
                name=name,
                source=f"{{{{ params.source.rstrip('/') }}}}/{name}.csv",
                only_for_training=name in FOR_LABEL,
                doc_md=f"Check {name}.csv, and replace table stg_{name} by it with COPY."
                + (" Skipped with score_only." if name in FOR_LABEL else ""),
            )

    def run_sql(task_id: str, file: str, output: str, doc: str, trigger_rule: str = "all_success") -> Any:
        return aql.transform_file(
            file_path=file,
            task_id=task_id,
            conn_id=settings.postgres_conn_id,
            parameters=SQL_PARAMETERS | {"as_of_date": "{{ params.as_of_date or '' }}"},
            op_kwargs={"output_table": warehouse_table(output)},
            trigger_rule=trigger_rule,
            inlets=[],
            outlets=[],
            doc_md=doc,
        )

    @task_group
    def transform() -> dict[str, Any]:
        return {
            "churned": run_sql(
                "transform_churn",
                "customer_churn_month.sql",
                "customer_churn_month",
                "Who has churned: the last month paid for is over by the as-of date. Skipped with score_only.",
            ),
            "customers": run_sql(
                "transform_customers",
                "customers.sql",
                "customers",
                "One row for each customer: first and latest order, number of orders, sum of the payments.",
                ALSO_FOR_SCORING,
            ),
        }

    @task_group
    def left_out(churned: Any, customers: Any) -> None:
        @aql.dataframe(inlets=[], outlets=[], trigger_rule=ALSO_FOR_SCORING)
        def describe(counts: pd.DataFrame, unlabelled: pd.DataFrame) -> None:
            """Say in the log how many rows and customers were left out, and why."""
            from include.churn.features import describe_left_out

            for table in (counts, unlabelled):
                if table is not None:  # as unlabelled is where the label's tables are skipped
                    for sentence in describe_left_out(table.iloc[0].to_dict()):
                        log.info(sentence)

        # beside what the model needs, not before it
        unlabelled = run_sql(
            "count_unlabelled",
            "churn/unlabelled.sql",
            "churn_unlabelled",
            "How many customers count as not churned although nothing says so. Skipped with score_only.",
        )
        counts = run_sql(
            "count_left_out",
            "churn/left_out.sql",
            "churn_left_out",
            "How many orders and payments belong to nobody, and are left out.",
            ALSO_FOR_SCORING,
        )
        chain([churned.operator, customers.operator], [unlabelled.operator, counts.operator])
        describe(counts, unlabelled)

    @aql.dataframe(inlets=[], outlets=[], trigger_rule=ALSO_FOR_SCORING)
    @fail_at_once
    def features(churned: Table, customers: Table) -> pd.DataFrame:
        """Number of orders, lifetime value and, for training, label of each customer; names stay in the warehouse."""
        from include.churn.features import CHURNED_COLUMNS, CUSTOMER_COLUMNS, build_features
        from include.churn.staging import read_columns

        return build_features(
            read_columns(customers, CUSTOMER_COLUMNS),
            read_columns(churned, CHURNED_COLUMNS) if churned else None,  # skipped with score_only
        )

    @task.branch
    def train_or_score(**context: Any) -> str:
        """Train and judge a model first, or score with the present champion at once?"""
        return "fetch_champion" if context["params"]["score_only"] else "train"

    @aql.dataframe(inlets=[], outlets=[])
    @fail_at_once
    def train(feature_df: pd.DataFrame) -> dict[str, Any]:
        """Fit the random forest, judge it on held-out customers, publish it to Weights & Biases and the object store."""
        from airflow.sdk import get_current_context

        from include.churn import tracking

        context = get_current_context()
        params = context["params"]
        digests = {name: context["ti"].xcom_pull(f"extract_and_load.load_{name}", key=DIGEST) for name in SOURCES}
        # a load that was marked as successful by hand has left none
        files = {name: digest for name, digest in digests.items() if digest}
        return tracking.train(
            feature_df,
            context["run_id"],
            params["hyper_parameters"],
            params["as_of_date"],
            files,
            dag_id=context["ti"].dag_id,
        )

    @task_group
    def promote_model(feature_df: Any, trained: Any) -> Any:
        @task.branch
        @fail_at_once
        def compare_with_champion(feature_df: pd.DataFrame, trained: dict[str, Any], **context: Any) -> list[str]:
            """Is the new model good enough to become the champion? Moves the alias and writes the gate's record."""
            from include.churn.champion import judge

            decision, scorer = judge(feature_df, trained, context["run_id"])
            context["ti"].xcom_push("decision", {"outcome": decision.outcome, "reason": decision.reason})
            if scorer:
                context["ti"].xcom_push("handed_over", scorer.dump())
            return [f"promote_model.{'new_champion' if decision.promoted else 'champion_stays'}", "fetch_champion"]

        decided = compare_with_champion(feature_df, trained)
        chain(
            decided,
            [
                EmptyOperator(task_id="new_champion", doc_md="Nothing to do: the new model is the champion now."),
                EmptyOperator(task_id="champion_stays", doc_md="Nothing to do: the new model was not good enough."),
            ],
        )
        return decided  # what follows need not wait for the sign

    @task(trigger_rule=ALSO_FOR_SCORING, multiple_outputs=False, show_return_value_in_logs=False)
    @fail_at_once
    def fetch_champion(**context: Any) -> dict[str, Any]:
        """The model to score with: who was the champion when the new model had been judged, or who is it now.

        Fails where the champion cannot be used, or is no better than the baseline on these customers (param score_anyway).
        """
        from airflow.sdk.exceptions import AirflowSkipException

        from include.churn.champion import champion_for_scoring, require_worth
        from include.churn.records import HandOver

        params = context["params"]
        if params["score_only"]:
            return HandOver(champion=champion_for_scoring()).dump()
        handed_over = context["ti"].xcom_pull(task_ids=JUDGE, key="handed_over")
        if not handed_over:
            raise AirflowSkipException(
                "No model has been good enough to be the champion yet: nobody is scored, the predictions stay as they are"
            )
        require_worth(HandOver.model_validate(handed_over), score_anyway=params["score_anyway"])
        return handed_over

    @aql.dataframe(inlets=[], outlets=[])
    @fail_at_once
    def predict(feature_df: pd.DataFrame, handed_over: dict) -> None:
        """Each customer's churn probability by the champion, swapped into the table in one transaction."""
        from airflow.sdk import get_current_context

        from include.churn import tracking, warehouse

        context = get_current_context()
        table = context["params"]["predictions_table"]
        predictions, drift = tracking.predict(
            feature_df, handed_over, context["run_id"], table, dag_id=context["ti"].dag_id
        )
        warehouse.replace_predictions(predictions, table)
        context["ti"].xcom_push("drift", drift)

    @task(outlets=[DRIFT_DETECTED])
    def report_drift(drift: dict[str, Any], *, outlet_events: Any = None, run_id: str | None = None) -> None:
        """Update the asset drift_detected, on which a retraining may be scheduled; skipped where nothing has drifted."""
        from airflow.sdk.exceptions import AirflowSkipException

        if not drift["detected"]:
            raise AirflowSkipException(drift["sentence"])
        log.warning("%s. Report: %s", drift["sentence"], drift["report"])
        reference = {"model": settings.churn.artifact_name, "version": drift["model_version"], "dag_run": run_id}
        hand_over(outlet_events, DRIFT_DETECTED, reference)

    loaded = extract_and_load()
    tables = transform()
    feature_df = features(**tables)
    chain(loaded, [table.operator for table in tables.values()])
    left_out(**tables)
    chain(create_buckets_if_not_exists, feature_df)  # the first that puts something into a bucket
    trained = train(feature_df)
    champion = fetch_champion()
    chain(train_or_score(), [trained, champion])
    chain(promote_model(feature_df, trained), champion)
    report_drift(predict(feature_df, champion)["drift"])


add_links(
    customer_analytics(),
    {
        "create_buckets_if_not_exists": (ObjectsLink,),
        "train": (WandbRunLink, ObjectsLink),
        JUDGE: (WandbRunLink, ObjectsLink),
        "predict": (WandbRunLink, ObjectsLink),
    },
)
