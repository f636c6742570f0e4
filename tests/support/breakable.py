"""Fixtures of the tests that break the stack: the stack, and input that no run has seen."""

import uuid
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from include.settings import INCLUDE, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.local_stack import RunningStack

BUCKET = "resilience"  # of these tests' input


@pytest.fixture(scope="session")
def breakable(stack: "RunningStack") -> "RunningStack":
    """The session's stack with all DAGs unpaused."""
    for dag_id in ("feature_eng", "train", "predict", "customer_analytics"):
        stack.airflow.unpause(dag_id)
    if BUCKET not in {bucket["Name"] for bucket in stack.s3.list_buckets()["Buckets"]}:
        stack.s3.create_bucket(Bucket=BUCKET)
    return stack


@pytest.fixture(scope="session")
def new_animals(breakable: "RunningStack") -> "Callable[[], str]":
    """Animals that no run has seen, so that nothing is found that was made of the same: address of a CSV."""

    def write() -> str:
        seed = uuid.uuid4().int % 2**32
        animals = pd.read_csv(INCLUDE / settings.possum.file_path).sample(frac=1, random_state=seed)
        # a millimetre here and there: other data, and as good a model
        animals["belly"] = animals["belly"] + 0.1 * (animals["case"] % 7 == seed % 7) + (seed % 89) / 1000
        key = f"{seed}.csv"
        breakable.s3.put_object(Bucket=BUCKET, Key=key, Body=animals.to_csv(index=False).encode())
        return f"s3://{BUCKET}/{key}"

    return write


@pytest.fixture(scope="session")
def new_customers(breakable: "RunningStack", tmp_path_factory: pytest.TempPathFactory) -> "Callable[[], str]":
    """Customers that no run has seen: address of a folder of CSVs."""
    from include.churn.generate import write_tables

    def write() -> str:
        seed = uuid.uuid4().int % 2**31
        folder = tmp_path_factory.mktemp("customers")
        write_tables(200, seed, folder)
        for path in folder.glob("*.csv"):
            breakable.s3.put_object(Bucket=BUCKET, Key=f"{seed}/{path.name}", Body=path.read_bytes())
        return f"s3://{BUCKET}/{seed}"

    return write
