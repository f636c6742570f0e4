"""The table of predictions in the warehouse."""

import io
import logging
from contextlib import closing

import pandas as pd
from psycopg2 import sql

from include.settings import settings
from include.warehouse import postgres_hook

log = logging.getLogger(__name__)

LOCK_TIMEOUT = "60s"  # for readers that hold the old table


def replace_predictions(predictions: pd.DataFrame, name: str) -> None:
    """Put the predictions in the place of the former ones, in one transaction: readers see the old table or the new one.

    Args:
        predictions: customer_id, churn_probability (of churned = 1), used_for_training, model_version; shape (n, 4).
        name: of the table.

    """
    schema = settings.churn.warehouse_schema
    table = sql.Identifier(schema, name)
    following = sql.Identifier(schema, f"{name}_next")
    rows = io.StringIO(predictions.to_csv(index=False, header=False))
    hook = postgres_hook()
    with closing(hook.get_conn()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        # the same task may run twice at the same time: the second waits here until the first has ended
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"{schema}.{name}"])
        cursor.execute(
            sql.SQL(
                "CREATE TABLE {} (customer_id bigint PRIMARY KEY, churn_probability double precision NOT NULL, "
                "used_for_training boolean NOT NULL, model_version text NOT NULL)"
            ).format(following)
        )
        columns = sql.SQL(", ").join(map(sql.Identifier, predictions.columns))
        copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv)").format(following, columns)
        cursor.copy_expert(copy, rows)
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(following, sql.Identifier(name)))
    log.info("%d rows in table %s.%s of the warehouse", len(predictions), schema, name)
