"""The table of predictions on the real PostgreSQL: whatever bears its name is replaced, or it is said why it cannot be."""

from contextlib import closing

import pandas as pd
import pytest

from include.churn import warehouse
from include.errors import ConfigurationError
from include.settings import ChurnSettings, Settings

SCHEMA = "churn_tables"
COLUMNS = ["customer_id", "churn_probability", "used_for_training", "model_version", "better_than_baseline"]
ROWS = [(7, 0.25, True, "m:v1", None), (8, 0.5, None, "m:v1", None)]
PREDICTIONS = pd.DataFrame(ROWS, columns=COLUMNS).astype({"used_for_training": "boolean"})
EARLIER = (
    "(customer_id bigint PRIMARY KEY, churn_probability double precision NOT NULL, used_for_training boolean NOT NULL)"
)


@pytest.fixture
def execute(stack_connections, monkeypatch):
    """Run a statement as the superuser, in a schema of these tests that belongs to the warehouse's role."""
    from local_stack import postgres

    monkeypatch.setattr(warehouse, "settings", Settings(churn=ChurnSettings(warehouse_schema=SCHEMA)))
    with closing(postgres.connect(stack_connections.stack, "warehouse")) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        cursor.execute(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION warehouse")
        cursor.execute(f"SET search_path TO {SCHEMA}")

        def run(statement):
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

        try:
            yield run
        finally:
            cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def replace(execute):
    warehouse.replace_predictions(PREDICTIONS, "pred_x")
    return execute(f"SELECT {', '.join(COLUMNS)} FROM pred_x ORDER BY customer_id")


def as_warehouse(execute, *statements):
    execute("SET ROLE warehouse")
    for statement in statements:
        execute(statement)
    execute("RESET ROLE")


def test_table_is_made_where_there_is_none_and_leaves_nothing_beside_it(execute):
    assert replace(execute) == ROWS
    assert execute(f"SELECT tablename FROM pg_tables WHERE schemaname = '{SCHEMA}'") == [("pred_x",)]


@pytest.mark.parametrize("shape", [EARLIER, "(a text, b text, c text)", "(customer_id int)"])
def test_table_of_another_shape_is_replaced_whole(execute, shape):
    as_warehouse(execute, f"CREATE TABLE pred_x {shape}")
    assert replace(execute) == ROWS


def test_tables_whose_names_differ_by_next_do_not_get_into_each_others_way(execute):
    warehouse.replace_predictions(PREDICTIONS, "pred_x_next")
    assert replace(execute) == ROWS
    assert execute("SELECT count(*) FROM pred_x_next") == [(2,)]


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["CREATE VIEW pred_x AS SELECT 1 AS customer_id"], r"is not a table\. Drop or rename it, or name another"),
        (
            [f"CREATE TABLE pred_x {EARLIER}", "CREATE VIEW reader AS SELECT * FROM pred_x"],
            r"view churn_tables\.reader depends on table churn_tables\.pred_x\. Drop what depends on it",
        ),
        (["CREATE TABLE next_pred_x (a int)"], r"churn_tables\.next_pred_x exists.*drop or rename it"),
    ],
    ids=["a view", "a view on it", "the other name is taken"],
)
def test_what_cannot_be_replaced_is_named_at_once_and_stays(execute, statements, words):
    as_warehouse(execute, *statements)
    before = execute(f"SELECT relname, oid FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace ORDER BY 1")
    with pytest.raises(ConfigurationError, match=words):
        replace(execute)
    assert before == execute(
        f"SELECT relname, oid FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace ORDER BY 1"
    )


def test_table_of_another_role_is_named_at_once_and_stays(execute):
    """The schema belongs to nobody else, or its owner could drop the table."""
    execute(f"ALTER SCHEMA {SCHEMA} OWNER TO postgres")
    execute(f"GRANT ALL ON SCHEMA {SCHEMA} TO warehouse")
    execute("CREATE TABLE pred_x (a int)")
    with pytest.raises(
        ConfigurationError, match=r"must be owner of table pred_x\. Let its owner drop it, or give it to"
    ):
        replace(execute)
    assert execute("SELECT count(*) FROM pred_x") == [(0,)]
