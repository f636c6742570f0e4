"""skops.io without 1,200 warnings in the log: import it here, and before MLflow does.

When it is imported, skops looks for each of SciPy's functions in every module that is loaded, also in those that Airflow keeps
under old names, of which each warns of each name that it is asked for.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from skops.io import dumps, get_untrusted_types, loads

__all__ = ["dumps", "get_untrusted_types", "loads"]
