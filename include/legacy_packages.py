"""Makes astro-sdk-python 1.9.0 and airflow-provider-mlflow 1.1.0, which were written for Airflow 2, work on Airflow 3.3.

Whatever imports one of them imports this module first; ruff sorts it before all others (pyproject.toml). Each repair gives back
one name that is gone, and does nothing where it is there. tests/unit/test_legacy_packages.py has a test for each, which fails
when the packages no longer need it. Two more repairs, of what the SDK does with a database, are in include/warehouse.py, the
class that the SDK uses here. docs/decisions/0001-airflow-3.md says what these packages cost, and how to do without them.
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import sqlalchemy.engine.row
from airflow.configuration import conf
from airflow.providers.standard.operators.python import _BasePythonVirtualenvOperator

PACKAGES = r"(astro|mlflow_provider)(\.|$)"

# Modules that are gone, and where what they held is now
MOVED = {
    "airflow.hooks.dbapi": "airflow.providers.common.sql.hooks.sql",  # since Airflow 3.0; astro/databases/base.py
    "airflow.utils.python_virtualenv": "airflow.providers.standard.utils.python_virtualenv",  # 3.0; operators/pyfunc.py
}


class VirtualenvOperator(_BasePythonVirtualenvOperator):
    """The base class of the provider's ModelLoadAndPredictOperator, with what Airflow 3 took away or sets too late."""

    _bundle_path = None  # Airflow sets it in execute, which the provider's operator replaces

    def __init__(self, *, use_dill: bool, **kwargs: Any) -> None:  # noqa: ARG002 (the provider's operator says False)
        super().__init__(**kwargs)


def apply_defaults(function: Callable) -> Callable:
    """What the provider's operators are decorated with: has done nothing since Airflow 2.1, gone since 3.0."""
    return function


def repair() -> None:
    """Put every missing name into its place; may be called again."""
    # What the packages are warned of, such as names that Airflow has moved and still forwards, concerns their authors: no reader
    # of a log can do anything about it. Nor about the SDK's advice to use another name for export_file, the tutorial's.
    warnings.filterwarnings("ignore", module=PACKAGES)
    warnings.filterwarnings("ignore", message="This decorator is deprecated.*\n.*export_to_file")
    # astro/settings.py asks for the option, which is gone since Airflow 3.0, without a default of its own
    if not conf.has_option("core", "enable_xcom_pickling"):
        conf.set("core", "enable_xcom_pickling", "False")
    for name, now in MOVED.items():
        _forward(name, now)
    _give("airflow.utils.decorators", "apply_defaults", apply_defaults)  # gone since 3.0; operators/registry.py
    _give("airflow.operators.python", "_BasePythonVirtualenvOperator", VirtualenvOperator)  # 3.0; operators/pyfunc.py
    # gone since SQLAlchemy 2.0; astro/sql/operators/raw_sql.py and astro/custom_backend/serializer.py
    _give("sqlalchemy.engine", "ResultProxy", sqlalchemy.engine.CursorResult)
    _give("sqlalchemy.engine.row", "LegacyRow", sqlalchemy.engine.Row)


def _forward(name: str, now: str) -> None:
    """Make a module of that name, which imports the one that holds its contents ``now`` when it is asked for one."""
    if name in sys.modules:
        return
    module = ModuleType(name, f"Forwards to {now}.")
    module.__getattr__ = lambda attribute: getattr(importlib.import_module(now), attribute)  # type: ignore[method-assign]
    sys.modules[name] = module


def _give(module: str, name: str, value: Any) -> None:
    vars(importlib.import_module(module)).setdefault(name, value)


repair()
