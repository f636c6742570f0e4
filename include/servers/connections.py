"""Airflow connections in all their forms: JSON, a URI, or fields filled in in the UI."""

import json
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from include.errors import ConfigurationError

# Besides the connections, these variables decide how a server is reached. A child process with an environment of its own
# inherits them unchanged.
NETWORK_VARIABLES = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
    *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
)
HTTP = ("http", "https")
BLANKS = set(" \t\r\n")
TEXT = ("conn_type", "host", "login", "password", "schema")

Verify = bool | str | None  # how to check a server's certificate: not specified; yes or no; with this CA file or folder


@dataclass(frozen=True)
class Fields:
    """A connection's fields as Airflow has them; its repr contains no secret."""

    conn_id: str
    _: KW_ONLY
    conn_type: str = ""
    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def refusal(self, problem: str, remedy: str) -> ConfigurationError:
        """The error to raise: what is wrong with this connection, and how to write it."""
        where = f"in {variable_of(self.conn_id)} or at Admin > Connections"
        return ConfigurationError(f"connection {self.conn_id} {problem}: {remedy}, {where}")

    def require_type(self, *known: str) -> None:
        """Raise ConfigurationError for a connection to another kind of server."""
        if self.conn_type not in known:
            raise self.refusal(f"is of type {self.conn_type or '(none)'}", f"write {known[0]} as conn_type")

    def require_whole_login(self, remedy: str) -> None:
        """Raise ConfigurationError for half a login, which some clients would send and others would not."""
        if bool(self.login) != bool(self.password):
            given, missing = ("login", "password") if self.login else ("password", "login")
            raise self.refusal(f"has a {given} but no {missing}", remedy)

    def section(self, *names: str) -> dict[str, Any]:
        """The JSON object at that path in extra; empty if there is none."""
        section: Any = self.extra
        for name in names:
            section = section.get(name) or {}
            if not isinstance(section, dict):
                raise self.refusal(f"has a {name} in extra that is not a JSON object", f'write {{"{name}": {{...}}}}')
        return section

    @property
    def verify(self) -> Verify:
        """How to check the server's certificate, from extra."""
        verify = self.extra.get("verify")
        if verify is None or isinstance(verify, bool):
            return verify
        if str(verify).lower() in ("true", "false"):  # boto3 would look for a CA file of that name
            raise self.refusal(f"has {verify!r} as verify, in quotes", 'write extra as JSON: {"verify": false} or true')
        return existing(str(verify), f"verify of connection {self.conn_id}")


def existing(path: str, origin: str) -> str:
    """The path itself; raises ConfigurationError, naming where it was set, if it does not exist."""
    if not Path(path).exists():
        raise ConfigurationError(
            f"{origin} is {path}, but this machine has no such file: put it there, or correct the path"
        )
    return path


def variable_of(conn_id: str) -> str:
    """The environment variable that defines the connection."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def read_connection(conn_id: str) -> Fields:
    """The connection with that id, wherever it is defined; raises ConfigurationError if it is not."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return fields_of(BaseHook.get_connection(conn_id))
    except AirflowNotFoundException as error:
        raise ConfigurationError(f"{error}: {how_to_define(conn_id)}") from error


def how_to_define(conn_id: str) -> str:
    """What to do if Airflow finds no connection with that id."""
    variable = variable_of(conn_id)
    if os.environ.get(variable):  # Airflow calls a connection that it cannot parse undefined
        return f"{variable} is set, but cannot be read: write it as one line of JSON, see .env_example"
    return f"define the connection at Admin > Connections, or as {variable}, see .env_example"


def fields_of(connection: Any) -> Fields:
    """The fields of Airflow's Connection; raises ConfigurationError if extra is not a JSON object."""
    values = {name: getattr(connection, name) for name in (*TEXT, "port", "extra")}
    fields = _fields(connection.conn_id or "", values)
    connection.get_extra_dejson()  # registers the secrets in extra with Airflow, which masks them in logs
    return fields


def parse_connection(conn_id: str, text: str) -> Fields:
    """The fields that Airflow would read from the variable's text, for programs that run without Airflow."""
    try:
        if text.startswith("{"):
            return _fields(conn_id, json.loads(text))
        uri = urlsplit(text)
        query = dict(parse_qsl(uri.query, keep_blank_values=True))
        if uri.scheme and uri.netloc:
            values = {
                "conn_type": uri.scheme,
                "host": unquote(uri.hostname or ""),
                "port": uri.port,
                "login": unquote(uri.username or ""),
                "password": unquote(uri.password or ""),
                "schema": unquote(uri.path[1:]),
                "extra": query.get("__extra__", query),
            }
            return _fields(conn_id, values)
    except ConfigurationError:
        raise
    except ValueError:
        pass
    # not quoting the text, which contains a password
    raise ConfigurationError(
        f"{variable_of(conn_id)} is not a connection in JSON, as .env_example has it, nor a URI"
    ) from None


def _fields(conn_id: str, values: Mapping[str, Any]) -> Fields:
    """Missing text becomes an empty string; extra may be JSON within JSON."""
    port, extra = values.get("port"), values.get("extra") or {}
    text: dict[str, Any] = {name: str(values.get(name) or "") for name in TEXT}
    fields = Fields(conn_id, port=int(port) if port else None, **text)
    try:
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise fields.refusal("has an extra that is not a JSON object", 'write extra as {"key": "value"}')
    return replace(fields, extra=extra)


# shared by the readers of the three kinds of servers


def given(**variables: str | None) -> dict[str, str]:
    """The variables that have a value."""
    return {name: value for name, value in variables.items() if value}


def listed(names: Any) -> str:
    """The names as part of a sentence."""
    return " and ".join(sorted(map(str, names)))


def shown(address: str) -> str:
    """The address for a message, without a login that may be part of it."""
    return repr(address.rpartition("@")[2])


def is_ipv6(host: str) -> bool:
    """Whether the host is an IPv6 address without brackets."""
    try:
        IPv6Address(host)
    except AddressValueError:
        return False
    return True


def split_address(url: str) -> SplitResult | None:
    """The parts of a URL; None if it has no host, an invalid port, a login or whitespace."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.hostname and parts.username is None and not set(url) & BLANKS else None
