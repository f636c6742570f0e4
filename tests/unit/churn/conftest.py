import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def features() -> pd.DataFrame:
    """Sixty customers in no order, a third churned, those with fewer orders more often."""
    rng = np.random.default_rng(3)
    churned = np.tile([1, 0, 0], 20)
    orders = rng.poisson(np.where(churned == 1, 1.0, 4.0))
    return pd.DataFrame(
        {
            "customer_id": rng.permutation(60) + 1,
            "number_of_orders": orders,
            "customer_lifetime_value": (orders * rng.uniform(5, 30, 60)).round(2),
            "churned": churned,
        }
    )
