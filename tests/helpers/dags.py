"""The project's DAGs in the test's own process."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG

FOLDER = Path(__file__).parents[2] / "dags"


def load_dag(dag_id: str) -> "DAG":
    """The DAG of the file with this name."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(FOLDER / f"{dag_id}.py").dags[dag_id]
