"""The object store behind an AWS connection."""

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from include.errors import ConfigurationError
from include.servers.connections import HTTP, Fields, Verify, given, listed, read_connection, shown, split_address

# Misspelt keys of extra, which nothing reads, and the right ones. Without an endpoint_url the login would be sent to Amazon.
MISTAKEN_KEYS = {
    "host": "endpoint_url",
    "endpoint": "endpoint_url",
    "region": "region_name",
    "session_token": "aws_session_token",
}
# Settings of botocore without which some servers reject uploads, and the variables that set them for MLflow's client
CLIENT_VARIABLES = {
    "signature_version": "MLFLOW_EXPERIMENTAL_S3_SIGNATURE_VERSION",
    "addressing_style": "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE",
    "request_checksum_calculation": "AWS_REQUEST_CHECKSUM_CALCULATION",
    "response_checksum_validation": "AWS_RESPONSE_CHECKSUM_VALIDATION",
}
# Everything that a server's description may set. What it leaves unset must not keep a value from elsewhere.
S3_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_DEFAULT_REGION"),
    *("MLFLOW_S3_ENDPOINT_URL", "MLFLOW_S3_IGNORE_TLS", *CLIENT_VARIABLES.values()),
)


class Keys(NamedTuple):
    """Credentials for S3; those with a session token expire after some hours."""

    access_key: str
    secret_key: str
    session_token: str = ""


@dataclass(frozen=True)
class S3Server:
    """An object store."""

    endpoint_url: str | None  # None: Amazon's own
    region: str | None
    verify: Verify
    keys: Keys | None = field(repr=False)  # those in the connection itself
    looked_up: str | None  # the key of extra that makes boto3 get credentials elsewhere: role_arn, profile_name
    client: dict[str, str]  # values by variable, of CLIENT_VARIABLES

    @property
    def client_variables(self) -> dict[str, str]:
        """The variables that tell every client what this server accepts."""
        # over HTTPS boto3 sends checksums after the data, which some S3 servers reject
        default = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"} if self.endpoint_url else {}
        return default | self.client

    def environment(self, keys: Keys | None, region: str | None) -> dict[str, str]:
        """The variables that point boto3 and MLflow's S3 client to this server. Contains credentials."""
        access_key, secret_key, session_token = keys or ("", "", "")
        return self.client_variables | given(
            AWS_ACCESS_KEY_ID=access_key,
            AWS_SECRET_ACCESS_KEY=secret_key,
            AWS_SESSION_TOKEN=session_token,
            AWS_DEFAULT_REGION=region,
            AWS_CA_BUNDLE=self.verify if isinstance(self.verify, str) else None,
            MLFLOW_S3_ENDPOINT_URL=self.endpoint_url,
            MLFLOW_S3_IGNORE_TLS="true" if self.verify is False else None,
        )


def s3_server() -> S3Server:
    """The object store of the connection that the settings name."""
    from include.settings import settings

    return read_s3(read_connection(settings.aws_conn_id))


def set_up_clients() -> S3Server:
    """Make the S3 clients of this process (Amazon's hook, s3fs, the Astro SDK) send only what the server accepts.

    Raises ConfigurationError as read_s3 does.
    """
    server = s3_server()
    os.environ.update(server.client_variables)
    return server


def read_s3(fields: Fields) -> S3Server:
    """The object store of an AWS connection.

    Raises ConfigurationError for settings that Amazon's hook ignores, or that other clients would read differently.
    """
    fields.require_type("aws", "s3")
    if fields.host:
        raise fields.refusal("has a host, which nothing reads", "write the server's address as endpoint_url in extra")
    if mistaken := MISTAKEN_KEYS.keys() & fields.extra:
        meant = listed(MISTAKEN_KEYS[key] for key in mistaken)
        raise fields.refusal(f"has {listed(mistaken)} in extra, which nothing reads", f"write {meant}")
    fields.require_whole_login("write the access key as login and the secret key as password")
    service = fields.section("service_config", "s3")
    if unread := service.keys() - {"endpoint_url", "bucket_name"}:
        raise fields.refusal(f"has {listed(unread)} in service_config.s3, which not all parts read", "leave it out")
    config = fields.section("config_kwargs")
    if "proxies" in config:
        raise fields.refusal("has proxies in config_kwargs, which not all parts read", "set HTTP_PROXY or HTTPS_PROXY")
    if config.get("signature_version") == "unsigned":
        raise fields.refusal("has no signature, so nothing could be written", "leave signature_version out")
    config = config | fields.section("config_kwargs", "s3")
    endpoint = service.get("endpoint_url", fields.extra.get("endpoint_url"))
    return S3Server(
        endpoint_url=_checked_endpoint(fields, str(endpoint)) if endpoint else None,
        region=fields.extra.get("region_name") or config.get("region_name"),
        verify=fields.verify,
        keys=_own_keys(fields),
        looked_up=next((key for key in ("role_arn", "profile_name") if fields.extra.get(key)), None),
        client={variable: str(config[name]) for name, variable in CLIENT_VARIABLES.items() if name in config},
    )


def _own_keys(fields: Fields) -> Keys | None:
    """Login and password take precedence over extra, as in the hook."""
    extra = fields.section("session_kwargs") | fields.extra
    access_key = fields.login or extra.get("aws_access_key_id")
    secret_key = fields.password or extra.get("aws_secret_access_key")
    if access_key and secret_key:
        return Keys(str(access_key), str(secret_key), str(extra.get("aws_session_token") or ""))
    return None


def _checked_endpoint(fields: Fields, url: str) -> str:
    parts = split_address(url)
    if parts is None or parts.scheme not in HTTP or parts.query or parts.fragment:
        raise ConfigurationError(
            f"Invalid endpoint {shown(url)}: write endpoint_url of connection {fields.conn_id} as http://host:port"
        )
    return url
