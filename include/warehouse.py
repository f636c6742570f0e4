"""How PostgreSQL is reached: by Airflow's hook and by the Astro SDK, with the same options for psycopg2 and SQLAlchemy."""

from functools import cached_property

from airflow.models.connection import Connection
from airflow.providers.postgres.hooks.postgres import PostgresHook
from astro.databases.postgres import PostgresDatabase

from include.servers.postgres import postgres_server
from include.settings import settings


def postgres_hook(conn_id: str | None = None, **options: str) -> PostgresHook:
    """Airflow's hook for that connection, by default the warehouse's, with additional options of libpq.

    By itself the hook passes ``sslmode`` to psycopg2 only, and SQLAlchemy would send data without TLS.
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
        extra={**server.hook, **options, "sqlalchemy_query": options},
    )
    return PostgresHook(postgres_conn_id=connection.conn_id, connection=connection)


class WarehouseDatabase(PostgresDatabase):
    """The Astro SDK's PostgreSQL with this hook; include/churn/load.py makes the SDK use it."""

    @cached_property
    def hook(self) -> PostgresHook:
        """The source of the SDK's connections, psycopg2's and SQLAlchemy's."""
        return postgres_hook(self.conn_id)
