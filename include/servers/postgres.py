"""The database behind a PostgreSQL connection."""

from dataclasses import dataclass, field
from typing import Any

from include.servers.connections import BLANKS, Fields, is_ipv6, listed, read_connection, shown


@dataclass(frozen=True)
class PostgresServer:
    """A database. ``options`` are libpq's, such as sslmode, and apply to every client."""

    host: str
    port: int | None
    database: str
    login: str
    password: str = field(repr=False)
    options: dict[str, str] = field(repr=False)
    hook: dict[str, Any] = field(repr=False)  # the rest of extra: options of Airflow's hook

    @property
    def address(self) -> str:
        """Host, port and database, for messages."""
        return f"{self.host}:{self.port or 5432}/{self.database}"


def postgres_server(conn_id: str | None = None) -> PostgresServer:
    """The database of that connection; by default the warehouse, whose connection the settings name."""
    from include.settings import settings

    return read_postgres(read_connection(conn_id or settings.postgres_conn_id))


def read_postgres(fields: Fields) -> PostgresServer:
    """The database of a PostgreSQL connection.

    Airflow's hook passes extra to psycopg only, and ``sqlalchemy_query`` within it to SQLAlchemy only; here both apply to
    both. Raises ConfigurationError if they contradict each other, and for a host that contains more than a host.
    """
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    fields.require_type("postgres")
    hook = {name: value for name, value in fields.extra.items() if name in PostgresHook.ignored_extra_options}
    given = {name: _libpq(value) for name, value in fields.extra.items() if name not in hook}
    query = {name: _libpq(value) for name, value in fields.section("sqlalchemy_query").items()}
    if twice := {name for name in given.keys() & query if given[name] != query[name]}:
        raise fields.refusal(f"has {listed(twice)} in extra and in its sqlalchemy_query", "write it in extra only")
    options = given | query
    host = fields.host
    if not host and not options.keys() & {"host", "hostaddr", "service"}:
        raise fields.refusal("has no host", "write host, port, login, password and schema (the database)")
    if set(host) & (BLANKS | set("@?[]")) or "://" in host or ("/" in host and not host.startswith("/")):
        raise fields.refusal(f"has the host {shown(host)}", "write the name or address alone as host")
    if ":" in host and not is_ipv6(host):
        raise fields.refusal(f"has the host {shown(host)}, which names a port", "write the port as port")
    hook.pop("sqlalchemy_query", None)
    return PostgresServer(host, fields.port, fields.schema, fields.login, fields.password, options, hook)


def _libpq(value: Any) -> str:
    return str(int(value) if isinstance(value, bool) else value)
