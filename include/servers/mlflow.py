"""The tracking server behind an HTTP connection."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote

from include.errors import ConfigurationError
from include.servers.connections import (
    HTTP,
    Fields,
    Verify,
    existing,
    given,
    is_ipv6,
    listed,
    read_connection,
    shown,
    split_address,
)

# Everything that a server's description may set. What it leaves unset must not keep a value from elsewhere.
MLFLOW_VARIABLES = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
)


@dataclass(frozen=True)
class MLflowServer:
    """A tracking server."""

    url: str  # including its path, without a trailing slash
    login: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    verify: Verify
    certificate: str | None  # file with the client certificate and its key

    def environment(self) -> dict[str, str]:
        """The variables that point MLflow's client to this server. Contains credentials."""
        return given(
            MLFLOW_TRACKING_URI=self.url,
            MLFLOW_TRACKING_USERNAME=self.login,
            MLFLOW_TRACKING_PASSWORD=self.password,
            MLFLOW_TRACKING_TOKEN=self.token,
            MLFLOW_TRACKING_INSECURE_TLS="true" if self.verify is False else None,
            MLFLOW_TRACKING_SERVER_CERT_PATH=self.verify if isinstance(self.verify, str) else None,
            MLFLOW_TRACKING_CLIENT_CERT_PATH=self.certificate,
        )


def mlflow_server() -> MLflowServer:
    """The tracking server of the connection that the settings name."""
    from include.settings import settings

    return read_mlflow(read_connection(settings.mlflow_conn_id), os.environ)


def read_mlflow(fields: Fields, environment: Mapping[str, str]) -> MLflowServer:
    """The tracking server of an HTTP connection.

    MLflow's TLS variables in the environment apply where the connection does not specify TLS. As in the provider, a bearer
    token is the password of the login ``token``. Raises ConfigurationError for an ambiguous address, and for settings that
    either the hook or the client would ignore.
    """
    fields.require_type("http", "https", "generic", "")
    if unread := fields.extra.keys() - {"verify", "cert"}:
        remedy = "leave it out (known are verify and cert; a bearer token is the password of the login token)"
        raise fields.refusal(f"has {listed(unread)} in extra, which MLflow's client does not send", remedy)
    fields.require_whole_login("write both; for a bearer token the login is the word token")
    bearer = fields.login == "token"
    own, by_variable = fields.extra.get("cert"), "MLFLOW_TRACKING_CLIENT_CERT_PATH"
    certificate = own or environment.get(by_variable)
    origin = f"cert of connection {fields.conn_id}" if own else by_variable
    return MLflowServer(
        url=_url(fields),
        login="" if bearer else fields.login,
        password="" if bearer else fields.password,
        token=fields.password if bearer else "",
        verify=_verify(fields, environment),
        certificate=existing(str(certificate), origin) if certificate else None,
    )


def _verify(fields: Fields, environment: Mapping[str, str]) -> Verify:
    if fields.verify is not None:
        return fields.verify
    insecure = environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower()
    if insecure not in ("", "0", "1", "false", "true"):
        raise ConfigurationError(f"MLFLOW_TRACKING_INSECURE_TLS is {insecure}: write true or false")
    file = environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    if insecure in ("1", "true"):
        if file:
            raise ConfigurationError(
                "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other: set one of them"
            )
        return False
    return existing(file, "MLFLOW_TRACKING_SERVER_CERT_PATH") if file else None


def _url(fields: Fields) -> str:
    if not fields.host:
        raise fields.refusal("has no host", "write host as http://host:port")
    host = f"[{fields.host}]" if is_ipv6(fields.host) else fields.host
    parts = split_address(host if "://" in host else f"//{host}")
    if parts is None or parts.query or parts.fragment:
        raise fields.refusal(f"has the host {shown(host)}", "write host as http://host:port, and nothing around it")
    scheme = _scheme(fields, parts)
    if fields.port and parts.port:
        raise fields.refusal(f"has the port {fields.port}, but its host names a port already", "leave port empty")
    if fields.port and parts.path:
        raise fields.refusal(
            "has a port, but its host ends in a path", "write host as http://host:port/path, port empty"
        )
    path = "" if fields.schema.lower() in HTTP else quote(fields.schema, safe="/")
    if path and parts.path:
        raise fields.refusal("has a path in host and another in schema", "write it all as host, schema empty")
    port = f":{fields.port}" if fields.port else ""
    return f"{scheme}://{parts.netloc.rstrip(':')}{port}{parts.path or f'/{path}'}".rstrip("/")


def _scheme(fields: Fields, parts: SplitResult) -> str:
    """http or https. The connection type http does not decide: the UI has no other type for web servers."""
    named = {parts.scheme} if parts.scheme else set()
    named |= {fields.schema.lower()} & set(HTTP)
    named |= {fields.conn_type} & {"https"}
    if len(named) > 1 or not named <= set(HTTP):
        raise fields.refusal(f"names {listed(named)}", "write host as http://host:port or https://host:port")
    if not named and 443 in (fields.port, parts.port):
        raise fields.refusal("names port 443, but not https", "write host as https://host")
    return next(iter(named), "http")
