"""How PostgreSQL is reached: by Airflow's hook and by the Astro SDK, with the same options for psycopg and SQLAlchemy."""

import include.legacy_packages

import io
import json
from contextlib import closing
from functools import cached_property
from typing import BinaryIO

import pandas as pd
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import Connection
from astro.constants import DEFAULT_CHUNK_SIZE, LoadExistStrategy
from astro.databases.postgres import PostgresDatabase
from astro.table import BaseTable
from psycopg import Cursor, sql
from sqlalchemy import Engine

from include.servers.postgres import postgres_server
from include.settings import settings

COPY_BLOCK = 1 << 18  # bytes


def postgres_hook(conn_id: str | None = None, **options: str) -> PostgresHook:
    """Airflow's hook for that connection, by default the warehouse's, with additional options of libpq.

    By itself the hook passes ``sslmode`` to psycopg only, and SQLAlchemy would send data without TLS.
    """
    server = postgres_server(conn_id)
    options = server.options | options
    connection = Connection(
        conn_id=conn_id or settings.postgres_conn_id,
        conn_type="postgres",
        host=server.host or None,
        port=server.port,
        schema=server.database or None,
        login=server.login or None,
        password=server.password or None,
        extra=json.dumps({**server.hook, **options, "sqlalchemy_query": options}),
    )
    return PostgresHook(postgres_conn_id=connection.conn_id, connection=connection)


class WarehouseDatabase(PostgresDatabase):
    """The Astro SDK's PostgreSQL with this hook; include/churn/load.py makes the SDK use it.

    Two of the repairs without which the SDK does not work on Airflow 3 (the others: include/legacy_packages.py) are here.
    """

    @cached_property
    def hook(self) -> PostgresHook:
        """The source of the SDK's connections, psycopg's and SQLAlchemy's."""
        return postgres_hook(self.conn_id)

    @cached_property
    def sqlalchemy_engine(self) -> Engine:
        """An engine that commits each statement.

        The SDK asks for that by an option of the statement, which SQLAlchemy 2 ignores: its tables would be rolled back.
        """
        return self.hook.get_sqlalchemy_engine({"isolation_level": "AUTOCOMMIT"})

    def load_pandas_dataframe_to_table(
        self,
        source_dataframe: pd.DataFrame,
        target_table: BaseTable,
        if_exists: LoadExistStrategy = "replace",
        chunk_size: int = DEFAULT_CHUNK_SIZE,  # noqa: ARG002 (the SDK's signature)
    ) -> None:
        """Fill the table with COPY, as the SDK does; its own calls psycopg2's, Postgres provider 7 gives psycopg 3."""
        self._assert_not_empty_df(source_dataframe)
        self.create_schema_if_applicable(target_table.metadata.schema)
        if if_exists == "replace" or not self.table_exists(target_table):
            self.create_table(target_table, dataframe=source_dataframe)
        copy = sql.SQL("COPY {} FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')").format(
            sql.SQL(self.get_table_qualified_name(target_table))
        )
        with closing(self.hook.get_conn()) as connection, connection, connection.cursor() as cursor:
            copy_into(cursor, copy, csv_of(source_dataframe))


def csv_of(frame: pd.DataFrame) -> BinaryIO:
    """The rows as CSV in UTF-8, without a header."""
    return io.BytesIO(frame.to_csv(index=False, header=False).encode())


def copy_into(cursor: Cursor, statement: sql.Composed, rows: BinaryIO) -> None:
    """Run a COPY ... FROM STDIN that reads these rows."""
    with cursor.copy(statement) as copy:
        while block := rows.read(COPY_BLOCK):
            copy.write(block)
