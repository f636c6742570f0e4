"""The examples of docs/decisions/0001-airflow-3.md, which replace the two named packages, are DAGs that Airflow takes."""

import re
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

PAGE = Path(__file__).parents[2] / "docs" / "decisions" / "0001-airflow-3.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the decisions are not in this copy of the project")


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S) if PAGE.exists() else [""]


@pytest.mark.parametrize("example", examples(), ids=lambda text: text.strip().rpartition("\n")[2])
def test_example_is_a_dag_without_the_packages(example: str, tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(example)
    assert not re.search(r"\b(astro|mlflow_provider|include)\b.*import|import .*\b(astro|mlflow_provider)\b", example)
    bag = DagBag(dag_folder=file)
    assert not bag.import_errors
    assert len(bag.dags) == 1
