"""
### Who is about to leave?

Loads the shop's five CSVs into PostgreSQL, transforms them with SQL, trains a random forest that tells churned customers
from others, tracks it in Weights & Biases (offline without a key), and writes each customer's probability to `pred_churn`.
"""

import logging
from datetime import datetime
from typing import Any

import pandas as pd
from airflow.decorators import dag, task_group
from airflow.models.baseoperator import chain
from airflow.models.param import Param
from airflow.providers.amazon.aws.operators.s3 import S3CreateBucketOperator
from astro import sql as aql

from include.churn.load import LoadCheckedFileOperator, warehouse_table
from include.dag_defaults import DEFAULT_ARGS
from include.settings import INCLUDE, settings
from include.task_errors import fail_at_once

log = logging.getLogger("airflow.task")

SOURCES = ("subscription_periods", "util_months", "customers", "orders", "payments")
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
    default_args=DEFAULT_ARGS,
    template_searchpath=str(INCLUDE),
    params={
        "source": Param(
            settings.churn_data_dir,
            type="string",
            minLength=1,
            description="Folder of the five CSVs: relative to include/, or s3://bucket/prefix",
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
    doc_md=__doc__,
)
def customer_analytics() -> None:
    create_buckets_if_not_exists = S3CreateBucketOperator.partial(
        task_id="create_buckets_if_not_exists",
        aws_conn_id=settings.aws_conn_id,
        map_index_template="{{ task.bucket_name }}",
    ).expand(bucket_name=[settings.xcom_bucket, settings.churn_model_bucket])

    @task_group
    def extract_and_load() -> None:
        for name in SOURCES:
            LoadCheckedFileOperator(task_id=f"load_{name}", name=name, source=f"{{{{ params.source }}}}/{name}.csv")

    @task_group
    def transform() -> dict[str, Any]:
        def run_sql(task_id: str, file: str, output: str) -> Any:
            return aql.transform_file(
                file_path=file,
                task_id=task_id,
                conn_id=settings.postgres_conn_id,
                parameters=SQL_PARAMETERS | {"as_of_date": "{{ params.as_of_date or '' }}"},
                op_kwargs={"output_table": warehouse_table(output)},
                inlets=[],
                outlets=[],
            )

        return {
            "churned": run_sql("transform_churn", "customer_churn_month.sql", "customer_churn_month"),
            "customers": run_sql("transform_customers", "customers.sql", "customers"),
            "left_out": run_sql("count_left_out", "churn/left_out.sql", "churn_left_out"),
        }

    @aql.dataframe(inlets=[], outlets=[])
    @fail_at_once
    def features(churned: pd.DataFrame, customers: pd.DataFrame, left_out: pd.DataFrame) -> pd.DataFrame:
        """Number of orders, lifetime value and label of each customer; the log counts what the rules left out."""
        from include.churn.features import build_features, describe_left_out

        for sentence in describe_left_out(left_out.iloc[0].to_dict()):
            log.info(sentence)
        return build_features(customers, churned)

    @aql.dataframe(inlets=[], outlets=[])
    @fail_at_once
    def train(feature_df: pd.DataFrame) -> dict[str, Any]:
        """Fit the random forest, judge it on held-out customers, publish it to Weights & Biases and the object store."""
        from airflow.operators.python import get_current_context

        from include.churn import tracking

        context = get_current_context()
        params = context["params"]
        return tracking.train(feature_df, context["run_id"], params["hyper_parameters"], params["as_of_date"])

    @aql.dataframe(inlets=[], outlets=[])
    @fail_at_once
    def predict(feature_df: pd.DataFrame, trained: dict) -> pd.DataFrame:
        """Each customer's churn probability by that very model, swapped into pred_churn in one transaction."""
        from airflow.operators.python import get_current_context

        from include.churn import tracking, warehouse

        predictions = tracking.predict(feature_df, trained, get_current_context()["run_id"])
        warehouse.replace_predictions(predictions)
        return predictions

    loaded = extract_and_load()
    tables = transform()
    feature_df = features(**tables)
    chain(create_buckets_if_not_exists, loaded, [table.operator for table in tables.values()])
    predict(feature_df, train(feature_df))


customer_analytics()
