"""What `astro dev parse` runs, in the image and without the stack: every file in dags/ imports."""

import pytest
from airflow.dag_processing.dagbag import DagBag

bag = DagBag()
outcomes = {dag.fileloc: "" for dag in bag.dags.values()} | bag.import_errors


@pytest.mark.parametrize("file", sorted(outcomes))
def test_file_imports(file: str) -> None:
    assert not outcomes[file], f"{file} does not import:\n{outcomes[file]}"


def test_there_are_dags() -> None:
    assert bag.dags
