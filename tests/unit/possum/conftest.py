import pandas as pd
import pytest

from include.possum.features import engineer_features, fit_transformer
from include.possum.schema import complete_rows, read_animals
from include.settings import INCLUDE

SHIPPED = INCLUDE / "possum.csv"


@pytest.fixture(scope="session")
def animals() -> pd.DataFrame:
    """The 104 shipped animals."""
    return read_animals(SHIPPED, "possum.csv")


@pytest.fixture(scope="session")
def complete(animals) -> pd.DataFrame:
    """The 101 of them without a missing value."""
    return complete_rows(animals)[0]


@pytest.fixture(scope="session")
def features(complete) -> pd.DataFrame:
    return engineer_features(fit_transformer(complete), complete)
