"""The table of predictions in the warehouse."""

import logging
from contextlib import closing

import pandas as pd
from psycopg import errors, sql

from include.errors import ConfigurationError
from include.settings import settings
from include.warehouse import copy_into, csv_of, postgres_hook

log = logging.getLogger(__name__)

LOCK_TIMEOUT = "60s"  # for readers that hold the old table
# What stands in the table's place and is not this pipeline's to drop, by what PostgreSQL says when it is asked to
NOT_OURS = {
    errors.InsufficientPrivilege: "Let its owner drop it, or give it to the login of connection {connection} "
    "(ALTER TABLE ... OWNER TO ...)",
    errors.WrongObjectType: "Drop or rename it",
    errors.DependentObjectsStillExist: "Drop what depends on it, and let readers query the table itself",
}


def replace_predictions(predictions: pd.DataFrame, name: str) -> None:
    """Put the predictions in the place of the former ones, in one transaction: readers see the old table or the new one.

    A former table of another shape is replaced whole, and a table that is gone is made again.

    Args:
        predictions: customer_id, churn_probability (of churned = 1), used_for_training, model_version, better_than_baseline;
            shape (n, 5). The two booleans may be missing, where nobody knows.
        name: of the table; begins with ``pred_``.

    Raises:
        ConfigurationError: if what bears the table's name cannot be replaced: it belongs to another role, is a view, or
            something depends on it.

    """
    schema = settings.churn.warehouse_schema
    table = sql.Identifier(schema, name)
    # no table of predictions can have this name, as each begins with pred_
    following = sql.Identifier(schema, f"next_{name}")
    hook = postgres_hook()
    with closing(hook.get_conn()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        # the same task may run twice at the same time: the second waits here until the first has ended
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"{schema}.{name}"])
        try:
            cursor.execute(
                sql.SQL(
                    "CREATE TABLE {} (customer_id bigint PRIMARY KEY, churn_probability double precision NOT NULL, "
                    "used_for_training boolean, model_version text NOT NULL, better_than_baseline boolean)"
                ).format(following)
            )
        except errors.DuplicateTable as error:  # made by hand: the transaction of a run that was killed leaves nothing
            raise ConfigurationError(
                f"{schema}.next_{name} exists, which replacing {schema}.{name} needs as a name: drop or rename it"
            ) from error
        columns = sql.SQL(", ").join(map(sql.Identifier, predictions.columns))
        copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')").format(following, columns)
        copy_into(cursor, copy, csv_of(predictions))
        try:
            cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        except tuple(NOT_OURS) as error:
            advice = NOT_OURS[type(error)].format(connection=settings.postgres_conn_id)
            said = "; ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
            raise ConfigurationError(
                f"{schema}.{name} cannot be replaced: {said}. {advice}, or name another predictions_table"
            ) from error
        cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(following, sql.Identifier(name)))
    log.info("%d rows in table %s.%s of the warehouse", len(predictions), schema, name)
