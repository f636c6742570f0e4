"""The DAG customer_analytics on a running stack: start it, wait, and look at what it left."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from include.settings import settings
from tests.support.local_stack import RunningStack

DAG = "customer_analytics"
INCOMING = "churn-incoming"  # bucket of the tests' own input


@dataclass(frozen=True)
class ChurnRun:
    """A run that has ended."""

    stack: RunningStack
    id: str
    state: str
    tasks: dict[str, dict[str, Any]]

    @property
    def states(self) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks.items()}

    def log(self, task_id: str) -> str:
        return self.stack.airflow.log(self.tasks[task_id])

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.stack.airflow.xcom(DAG, self.id, task_id, key)


class Churn:
    """Runs the DAG; input of the tests' own goes to a bucket of its own."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        buckets = {bucket["Name"] for bucket in stack.s3.list_buckets()["Buckets"]}
        if INCOMING not in buckets:
            stack.s3.create_bucket(Bucket=INCOMING)
        if settings.churn.model_bucket in buckets:  # of earlier tests on a stack that was kept
            for key in stack.keys(settings.churn.model_bucket):
                stack.s3.delete_object(Bucket=settings.churn.model_bucket, Key=key)

    def trigger(self, **params: Any) -> str:
        return self.stack.airflow.trigger_with(DAG, **params)

    def wait(self, run_id: str, state: str = "success") -> ChurnRun:
        """Wait for the run's end in that state; where it fails instead, show the failed tasks' logs."""
        airflow = self.stack.airflow
        if state == "success":
            airflow.wait_for_success(DAG, run_id)
        ended = airflow.wait(DAG, run_id)
        assert ended["state"] == state
        tasks = {task["task_id"]: task for task in airflow.tasks(DAG, run_id)}
        return ChurnRun(self.stack, run_id, ended["state"], tasks)

    def run(self, state: str = "success", **params: Any) -> ChurnRun:
        return self.wait(self.trigger(**params), state)

    def pause(self, paused: bool) -> None:
        answer = self.stack.airflow._client.patch(f"/dags/{DAG}", json={"is_paused": paused})
        assert answer.status_code == 200

    def put_folder(self, name: str, files: Mapping[str, bytes | pd.DataFrame]) -> str:
        """Put <table>.csv files into a folder of the bucket, and return its address."""
        for table, content in files.items():
            body = content if isinstance(content, bytes) else content.to_csv(index=False).encode()
            self.stack.s3.put_object(Bucket=INCOMING, Key=f"{name}/{table}.csv", Body=body)
        return f"s3://{INCOMING}/{name}"

    def table(self, name: str, columns: str = "*") -> list[tuple]:
        return self.stack.query(f"SELECT {columns} FROM {settings.churn.warehouse_schema}.{name}", database="warehouse")

    def count(self, name: str) -> int:
        return self.table(name, "count(*)")[0][0]

    def columns_of(self, *names: str) -> dict[str, list[str]]:
        """The columns of the tables with names like these, by table."""
        rows = self.stack.query(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
            "AND table_name LIKE ANY(%s) ORDER BY table_name, ordinal_position",
            settings.churn.warehouse_schema,
            list(names),
            database="warehouse",
        )
        return {table: [column for name, column in rows if name == table] for table, _ in rows}

    def predictions(self, name: str) -> pd.DataFrame:
        """The table of predictions, by customer."""
        columns = self.columns_of(name)[name]
        return pd.DataFrame(self.table(name), columns=columns).sort_values("customer_id", ignore_index=True)

    def snapshot(self) -> dict[str, Any]:
        """What runs leave, as it is now."""
        return {
            "rows": {name: self.count(name) for name in self.columns_of("stg_%", "customers")},
            "predictions": {name: self.predictions(name) for name in self.columns_of("pred_%")},
            "champion": json.loads(self.object("champion.json")),
            "models": self.objects("models/"),
        }

    def features(self, run: ChurnRun) -> pd.DataFrame:
        """What the run's task ``features`` has handed over, from the XCom bucket."""
        ((value,),) = self.stack.query(
            "SELECT value FROM xcom WHERE dag_id = %s AND run_id = %s AND task_id = 'features' AND key = 'return_value'",
            DAG,
            run.id,
        )
        return pd.read_parquet(io.BytesIO(self.stack.object(value["__dataframe__"])))

    def objects(self, prefix: str = "") -> dict[str, str]:
        """ETag by key, below the churn models' folder."""
        folder = f"{settings.churn.artifact_name}/"
        found = self.stack.keys(settings.churn.model_bucket, folder + prefix)
        return {key.removeprefix(folder): etag for key, etag in found.items()}

    def object(self, key: str) -> bytes:
        return self.stack.object(f"s3://{settings.churn.model_bucket}/{settings.churn.artifact_name}/{key}")
