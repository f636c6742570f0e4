"""Each repair of the two legacy packages is needed as long as its test passes, and stays whatever is imported in which order."""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from multiprocessing.pool import Pool
from pathlib import Path

import pytest
from airflow.providers.postgres.hooks import postgres as postgres_hooks
from sqlalchemy import create_engine, text
from sqlalchemy import inspect as inspect_database

from include import legacy_packages
from tests.helpers.forks import fork_server

PROJECT = Path(__file__).parents[2]
USED = (
    "astro.sql",
    "astro.databases.postgres",
    "mlflow_provider.operators.pyfunc",
    "mlflow_provider.operators.registry",
)


@pytest.fixture(scope="module")
def fresh() -> Iterator[Pool]:
    """Processes, one for each call, in which the repairs have been made and the packages not been imported."""
    # what the packages import of others takes longest
    server = fork_server(
        "airflow.sdk", "include.legacy_packages", "pandas", "airflow.models.taskinstance", "scipy.sparse"
    )
    with server.Pool(1, maxtasksperchild=1) as pool:
        yield pool


def without_module(name: str) -> None:
    del sys.modules[name]


def without_name(module: str, name: str) -> None:
    del vars(importlib.import_module(module))[name]


def without_option() -> None:
    from airflow.configuration import conf

    conf.remove_option("core", "enable_xcom_pickling")


def import_without(undo: Callable[..., None], arguments: tuple[str, ...], module: str) -> str:
    """What the import of the module says where one repair is missing; an empty text where it says nothing."""
    undo(*arguments)
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize(
    ("undo", "arguments", "module", "said"),
    [
        (without_option, (), "astro.settings", "core/enable_xcom_pickling"),
        (without_module, ("airflow.hooks.dbapi",), "astro.databases.base", "airflow.hooks.dbapi"),
        (without_name, ("sqlalchemy.engine", "ResultProxy"), "astro.sql.operators.raw_sql", "ResultProxy"),
        (without_name, ("sqlalchemy.engine.row", "LegacyRow"), "astro.sql.operators.raw_sql", "LegacyRow"),
        (
            without_name,
            ("airflow.utils.decorators", "apply_defaults"),
            "mlflow_provider.operators.registry",
            "apply_defaults",
        ),
        (
            without_name,
            ("airflow.operators.python", "_BasePythonVirtualenvOperator"),
            "mlflow_provider.operators.pyfunc",
            "_BasePythonVirtualenvOperator",
        ),
        (
            without_module,
            ("airflow.utils.python_virtualenv",),
            "mlflow_provider.operators.pyfunc",
            "python_virtualenv",
        ),
    ],
)
def test_package_does_not_import_without_the_repair(fresh, undo, arguments, module, said):
    """If it does, upstream has made the repair needless: remove it."""
    assert said in fresh.apply(import_without, (undo, arguments, module))


def import_all(*modules: str) -> list[str]:
    for module in modules:
        importlib.import_module(module)
    return sorted(set(modules) & set(sys.modules))


def test_packages_import_with_the_repairs(fresh):
    assert fresh.apply(import_all, USED) == sorted(USED)


def test_names_are_where_the_repairs_look_for_them():
    for module, name in (
        ("airflow.hooks.dbapi", "DbApiHook"),
        ("airflow.utils.python_virtualenv", "prepare_virtualenv"),
    ):
        assert getattr(sys.modules[module], name) is getattr(
            importlib.import_module(legacy_packages.MOVED[module]), name
        )


def test_packages_are_those_that_the_repairs_were_made_for():
    """Another version may need others, or none."""
    assert version("astro-sdk-python") == "1.9.0"
    assert version("airflow-provider-mlflow") == "1.1.0"


def test_airflows_own_base_class_takes_no_use_dill_and_sets_the_bundle_path_too_late():
    base = legacy_packages._BasePythonVirtualenvOperator
    assert "use_dill" not in inspect.signature(base.__init__).parameters
    assert not hasattr(base, "_bundle_path")
    assert "self._bundle_path" in inspect.getsource(base._execute_python_callable_in_subprocess)
    from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator

    operator = ModelLoadAndPredictOperator(task_id="predict", model_uri="s3://b/k", data=[])
    assert operator._bundle_path is None
    assert operator.serializer == "pickle"


# the two of include/warehouse.py, which tests/integration/churn_sql show at work


def test_sqlalchemy_does_not_heed_what_the_sdk_asks_for(tmp_path):
    import astro.databases.base

    assert "execution_options(autocommit=True)" in inspect.getsource(astro.databases.base)
    engine = create_engine(f"sqlite:///{tmp_path}/d")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (n int)"))
        connection.execute(text("INSERT INTO t VALUES (1)").execution_options(autocommit=True))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM t")).all() if inspect_database(engine).has_table("t") else []
    assert rows == []


def test_sdk_copies_by_a_method_that_the_hooks_connections_do_not_have():
    import astro.databases.postgres
    import psycopg

    assert "copy_expert" in inspect.getsource(astro.databases.postgres.PostgresDatabase.load_pandas_dataframe_to_table)
    assert postgres_hooks.USE_PSYCOPG3
    assert not hasattr(psycopg.Cursor, "copy_expert")


# warnings


def warned(*modules: str, repaired: bool) -> list[str]:
    """What the imports warn of, told by where it is."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if repaired:
            legacy_packages.repair()
        import_all(*modules)
    return sorted({found[1] for each in caught if (found := re.search(r"/(astro|mlflow_provider)/", each.filename))})


@pytest.mark.parametrize("module", USED)
def test_packages_warn_of_old_names_and_are_not_heard(fresh, module):
    assert fresh.apply(warned, (module,), {"repaired": False}) != []
    assert fresh.apply(warned, (module,), {"repaired": True}) == []


def test_export_file_advises_another_name_and_is_not_heard():
    from astro import sql as aql
    from astro.files import File
    from astro.table import Table

    for repaired, heard in ((False, True), (True, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if repaired:
                legacy_packages.repair()
            aql.export_file(task_id="e", input_data=Table("t"), output_file=File("/t.csv"), inlets=[], outlets=[])
        assert bool([each for each in caught if "export_to_file" in str(each.message)]) == heard


# order


def in_another_process(code: str) -> str:
    """Run code, with the project's plugins, and give the last line that it prints."""
    folder = str(PROJECT / "plugins")
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "AIRFLOW__CORE__PLUGINS_FOLDER": folder}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


ALL_OF_AIRFLOW = """
import airflow.settings, airflow.models, airflow.hooks, airflow.operators, airflow.utils, airflow.sdk, sqlalchemy.orm
import airflow.utils.db, airflow.jobs.scheduler_job_runner, airflow.providers.standard.operators.python
airflow.settings.initialize()
"""
PACKAGES = "\n".join(f"import {module}" for module in USED)


@pytest.mark.parametrize("first", ["repairs", "airflow"])
def test_order_of_imports_does_not_matter(first):
    parts = ["import include.legacy_packages", ALL_OF_AIRFLOW]
    code = "\n".join([*(parts if first == "repairs" else reversed(parts)), PACKAGES, "print('imported')"])
    assert in_another_process(code) == "imported"


def test_plugin_makes_what_is_imported_in_a_task_warn_of_nothing():
    """What a DAG file sets of warnings is gone when it has been read; what its tasks import, and what they call, comes later."""
    code = """
import json, warnings
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.listener import get_listener_manager
get_listener_manager()  # as a task's process does first: it loads the plugins
assert not DagBag("dags/train.py").import_errors
heard = []
warnings.showwarning = lambda message, category, filename, *_, **__: heard.append(filename)
import mlflow_provider.hooks.client, mlflow_provider.operators.pyfunc, astro.databases
print(json.dumps([each for each in heard if "/astro/" in each or "/mlflow_provider/" in each]))
"""
    assert json.loads(in_another_process(code)) == []


def packages_of(node: ast.AST) -> bool:
    """Whether it is an import of one of the packages."""
    names = (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [str(node.module)]
        if isinstance(node, ast.ImportFrom)
        else []
    )
    return any(re.match(legacy_packages.PACKAGES, name) for name in names)


def users() -> list[Path]:
    """The project's files that import one of the packages."""
    files = [path for folder in ("dags", "include", "plugins") for path in (PROJECT / folder).rglob("*.py")]
    return [path for path in files if any(map(packages_of, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))]


def test_every_file_that_uses_a_package_makes_the_repairs_first():
    found = users()
    assert len(found) > 5
    for path in found:
        imports = [
            each
            for each in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(each, ast.Import | ast.ImportFrom)
        ]
        assert ast.unparse(imports[0]) == "import include.legacy_packages", path


def test_skops_is_imported_without_a_warning():
    """On import it asks every module for each of SciPy's functions; Airflow's warn of each name that they are asked for."""
    code = """
import warnings, airflow.sdk, airflow.utils, airflow.operators
heard = []
warnings.showwarning = lambda message, *_, **__: heard.append(str(message))
import {module}
print(len([each for each in heard if "airflow" in each]))
"""
    assert int(in_another_process(code.format(module="skops.io"))) > 100, "include/skops_io.py is needless"
    assert int(in_another_process(code.format(module="include.skops_io"))) == 0
