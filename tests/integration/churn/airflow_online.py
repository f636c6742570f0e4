"""Run the DAG with the environment as it is: ``python airflow_online.py '[{param: value}, ...]'``.

Each run is a process of its own, as a task is (wandb cannot begin again in a process that it has left). The first run loads
its files, and each run with a source of its own; in the others the tasks that load are marked as successful. For each run
there is a line in the output that begins with RESULT: its id, its state and its tasks' states as JSON.
"""

import asyncio
import json
import os
import sys
from typing import Any

import httpx
from airflow import settings as airflow_settings
from airflow.sdk.execution_time.supervisor import in_process_api_server

from tests.helpers.dags import load_dag

LOADS = r"create_buckets_if_not_exists|extract_and_load\..*"


def run(dag: Any, params: dict[str, Any], load: bool) -> None:
    airflow_settings.engine.dispose()  # connections are not for sharing between processes
    ended = dag.test(run_conf=params, mark_success_pattern=None if load else LOADS)
    states = {instance.task_id: str(instance.state) for instance in ended.get_task_instances()}
    print("\nRESULT", json.dumps({"id": ended.run_id, "state": str(ended.state), "tasks": states}), flush=True)  # noqa: T201


async def build_routes() -> None:
    """Let what tasks call be built, as it is at its first call; it takes far longer than a run."""
    transport = httpx.ASGITransport(app=in_process_api_server().app)
    async with httpx.AsyncClient(transport=transport, base_url="http://in-process") as client:
        await client.get("/health")


def main() -> None:
    asyncio.run(build_routes())  # once for all runs, which are forks
    dag = load_dag("customer_analytics")
    for number, params in enumerate(json.loads(sys.argv[1])):
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            run(dag, params, load=number == 0 or "source" in params)
            return


if __name__ == "__main__":
    main()
