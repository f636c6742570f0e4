"""The warehouse's tables: a checked file takes the place of one, and the columns of one that a task needs are read."""

import include.legacy_packages

import logging
from collections.abc import Sequence
from contextlib import closing
from typing import BinaryIO

import pandas as pd
from astro.databases import create_database
from astro.table import Table
from psycopg import errors, sql
from sqlalchemy import BigInteger, Column, MetaData, Numeric, Text
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from include import csv_kinds
from include.csv_contract import Contract
from include.errors import ConfigurationError
from include.warehouse import copy_into

log = logging.getLogger(__name__)

LOCK_TIMEOUT = "60s"  # for readers that hold the old table
# What stands in the table's place and is not this pipeline's to drop
NOT_OURS = (errors.DependentObjectsStillExist, errors.InsufficientPrivilege, errors.WrongObjectType)
# PostgreSQL's types for the kinds of columns: none of them changes a value
SQL_TYPES = {
    csv_kinds.WholeNumber: BigInteger,
    csv_kinds.Amount: Numeric,
    csv_kinds.Date: postgresql.TIMESTAMP,
    csv_kinds.Text: Text,
}


def sql_columns(contract: Contract) -> list[Column]:
    """The columns of a table for the rows of a contract, for SQLAlchemy."""
    return [Column(column.name, SQL_TYPES[type(column.kind)], nullable=column.optional) for column in contract.columns]


def replace_table(table: Table, columns: Sequence[Column], rows: BinaryIO) -> None:
    """Put rows in the place of the table, in one transaction: readers see the old table or the new one.

    Args:
        table: Astro SDK's, with connection and schema.
        columns: SQLAlchemy's, in the order of ``rows``.
        rows: CSV in UTF-8 without a header; an empty field without quotes is NULL, ``""`` is the empty text.

    Raises:
        ConfigurationError: if the old table cannot be dropped, or the database's encoding lacks a character.

    """
    schema = table.metadata.schema
    name = sql.Identifier(schema, table.name)
    create = CreateTable(SqlTable(table.name, MetaData(schema=schema), *columns)).compile(dialect=postgresql.dialect())
    listed = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    hook = create_database(table.conn_id, table).hook
    with closing(hook.get_conn()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        try:
            cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
            cursor.execute(str(create))
            # whatever the client's encoding is, in this environment
            copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')").format(name, listed)
            copy_into(cursor, copy, rows)
        except NOT_OURS as error:
            said = "; ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
            raise ConfigurationError(
                f"table {schema}.{table.name} of connection {table.conn_id} cannot be replaced: {said}. Drop or rename what "
                "is in its way, or give it to the connection's login"
            ) from error
        except errors.UntranslatableCharacter as error:
            raise ConfigurationError(
                f"the database of connection {table.conn_id} cannot hold all characters: {error.diag.message_primary}. "
                "Create it with ENCODING 'UTF8'"
            ) from error
        log.info("%d rows in table %s.%s of the warehouse", cursor.rowcount, schema, table.name)


def read_columns(table: Table, columns: Sequence[str]) -> pd.DataFrame:
    """Read some columns of a table, and nothing of the others.

    Args:
        table: Astro SDK's, with connection and schema.
        columns: their names.

    Returns:
        All rows, in no order; shape (n, columns).

    """
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table.metadata.schema, table.name)
    )
    hook = create_database(table.conn_id, table).hook
    with closing(hook.get_conn()) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return pd.DataFrame(cursor.fetchall(), columns=list(columns))
