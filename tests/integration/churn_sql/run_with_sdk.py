"""Load the CSVs of a folder and run the SQL with the DAG's own operators; a process of its own, because of its environment.

Arguments: folder of the CSVs, as-of date or nothing, file for the tables as JSON. Needs the connection "warehouse".
"""

import include.legacy_packages

import inspect
import json
import locale
import sys
from pathlib import Path
from unittest import mock

from airflow.sdk import DAG
from astro import sql as aql

from include import sources
from include.churn.load import LoadCheckedFileOperator, warehouse_table
from include.churn.schema import TABLES

INCLUDE = Path(__file__).parents[3] / "include"


def run_operator(operator, params: dict[str, str]) -> None:
    context = {"ti": mock.MagicMock(), "params": params}
    operator.render_template_fields(context)
    # without Airflow's watch over calls of execute, which expects a task instance
    inspect.unwrap(type(operator).execute)(operator, context)


def main(folder: str, as_of_date: str, result: str) -> None:
    # not by the environment: Airflow 3.3 cannot be imported where the locale's encoding is ASCII
    locale.setlocale(locale.LC_ALL, "C")
    sources.INCLUDE = Path(folder)
    staged = {name: warehouse_table(f"stg_{name}") for name in TABLES}
    parameters = {f"{name}_table": staged[name] for name in ("customers", "orders", "payments")}
    parameters |= {name: staged[name] for name in ("subscription_periods", "util_months")}
    transforms = {
        "customer_churn_month": INCLUDE / "customer_churn_month.sql",
        "customers": INCLUDE / "customers.sql",
        "left_out": INCLUDE / "churn" / "left_out.sql",
        "unlabelled": INCLUDE / "churn" / "unlabelled.sql",
    }
    with DAG("churn_sql", schedule=None):
        loads = [LoadCheckedFileOperator(task_id=f"load_{name}", name=name, source=f"{name}.csv") for name in TABLES]
        transformations = [
            aql.transform_file(
                str(path),
                conn_id="warehouse",
                parameters=parameters | {"as_of_date": "{{ params.as_of_date or '' }}"},
                op_kwargs={"output_table": warehouse_table(name)},
                task_id=name,
            ).operator
            for name, path in transforms.items()
        ]
    for operator in [*loads, *transformations]:
        run_operator(operator, {"as_of_date": as_of_date})
    database = transformations[0].database_impl
    tables = {name: database.export_table_to_pandas_dataframe(warehouse_table(name)) for name in transforms}
    text = {name: table.astype(str).to_dict(orient="records") for name, table in tables.items()}
    Path(result).write_text(json.dumps(text), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
