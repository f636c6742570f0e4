"""Where the values of a stack's secrets could lie after runs: databases, files, objects, command lines."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from psycopg import sql

from tests.support.local_stack import RunningStack

SECRETS = (
    "s3_secret_key",
    "fernet_key",
    "airflow_secret_key",
    "login_password",
    "airflow_password",  # of Redis too
    "mlflow_password",
    "warehouse_password",
)
TABLES = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"

Text = tuple[str, bytes]  # a place, and what is there


class Search(NamedTuple):
    """The places that were looked at, and those where a secret is, with its name."""

    places: set[str]
    found: set[tuple[str, str]]


def search(stack: RunningStack, texts: Iterable[Text]) -> Search:
    """Look for the value of each of the stack's secrets."""
    secrets = {name: getattr(stack.stack.secrets, name).encode() for name in SECRETS}
    result = Search(set(), set())
    for place, text in texts:
        result.places.add(place)
        result.found.update((place, name) for name, secret in secrets.items() if secret in text)
    return result


def database_texts(stack: RunningStack, database: str) -> Iterator[Text]:
    """Every value of every row, by table: XComs, rendered fields, serialised DAGs, events, runs' parameters and tags."""
    for schema, table in stack.query(TABLES, database=database):
        query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))
        for row in stack.query(query, database=database):
            for value in row:
                yield table, value if isinstance(value, bytes) else str(value).encode()


def file_texts(folder: Path) -> Iterator[Text]:
    """Every file below a folder, by path."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def object_texts(stack: RunningStack) -> Iterator[Text]:
    """Every object of every bucket, by address: models, plots, features, XComs, logs."""
    for bucket in stack.s3.list_buckets()["Buckets"]:
        for key in stack.keys(bucket["Name"]):
            uri = f"s3://{bucket['Name']}/{key}"
            yield uri, stack.object(uri)


def command_line_texts(stack: RunningStack) -> Iterator[Text]:
    """The command lines of the stack's processes, which any user of the machine can list."""
    for line in stack.processes():
        yield line, line.encode()
