"""The possum pipeline's runs, made once by the real scheduler; the tests read what came of them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from include.settings import INCLUDE, settings

if TYPE_CHECKING:
    from tests.support.local_stack import RunningStack
    from tests.support.possum_runs import Round


@pytest.fixture(scope="session")
def possum_stack(stack: "RunningStack") -> "RunningStack":
    """The stack with the three DAGs unpaused."""
    for dag_id in ("feature_eng", "train", "predict"):
        stack.airflow.unpause(dag_id)
    return stack


@pytest.fixture(scope="session")
def first(possum_stack: "RunningStack") -> "Round":
    """One round on the shipped data."""
    from tests.support.possum_runs import follow

    began = datetime.now(UTC)
    return follow(possum_stack, possum_stack.airflow.trigger("feature_eng"), began)


@pytest.fixture(scope="session")
def fewer_animals(possum_stack: "RunningStack", first: "Round") -> str:
    """Address of a file with the shipped animals without those of one site, in the bucket that the first round has made."""
    animals = pd.read_csv(INCLUDE / settings.possum.file_path)
    fewer = animals[animals["site"] != 7].to_csv(index=False).encode()
    possum_stack.s3.put_object(Bucket=settings.data_bucket_name, Key="incoming/fewer.csv", Body=fewer)
    return f"s3://{settings.data_bucket_name}/incoming/fewer.csv"


@pytest.fixture(scope="session")
def overlapping(possum_stack: "RunningStack", first: "Round", fewer_animals: str) -> "list[Round]":
    """Two more rounds at the same time: on the shipped data, and on fewer animals."""
    from tests.support.possum_runs import follow

    began = datetime.now(UTC)
    runs = [
        possum_stack.airflow.trigger("feature_eng"),
        possum_stack.airflow.trigger_with("feature_eng", source=fewer_animals),
    ]
    return [follow(possum_stack, run, began) for run in runs]


@pytest.fixture(scope="session")
def by_hand(possum_stack: "RunningStack", overlapping: "list[Round]") -> str:
    """A run of predict that no asset has triggered."""
    run = possum_stack.airflow.trigger("predict")
    possum_stack.airflow.wait_for_success("predict", run)
    return run
