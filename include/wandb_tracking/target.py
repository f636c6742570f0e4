"""Where runs go: online or offline, to which server, into which project."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from include.errors import ConfigurationError
from include.object_store import sha256_hex
from include.settings import settings

HOSTED_URL = "https://api.wandb.ai"
AUTHORIZE = "get one from that server's user settings, on hosted W&B https://wandb.ai/authorize"

# As wandb checks it: 40 characters or more, after a prefix that self-hosted servers put before them; or a token of three parts
_KEY = re.compile(r"\w{40,}|[^\s-]*-[\w-]{40,}|[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


@dataclass(frozen=True)
class Target:
    """Where runs go, and why."""

    online: bool
    reason: str
    base_url: str
    project: str
    entity: str | None

    def __str__(self) -> str:
        where = f"online at {self.base_url}" if self.online else "offline"
        return f"{where}, because {self.reason}"


def tracking_target(environ: Mapping[str, str] | None = None) -> Target:
    """Online with a key, offline without one; WANDB_MODE decides otherwise.

    Raises ConfigurationError where mode, key or address cannot be right; the latter two only matter online.
    """
    environ = os.environ if environ is None else environ
    has_key, mode = bool(environ.get("WANDB_API_KEY")), environ.get("WANDB_MODE") or None
    if mode is None:
        online, reason = has_key, "WANDB_API_KEY is set" if has_key else "WANDB_API_KEY is not set"
    elif mode in {"online", "offline"}:
        online, reason = mode == "online", f"WANDB_MODE={mode}"
    else:
        raise ConfigurationError(
            f"WANDB_MODE={shlex.quote(mode)} is not supported: set it to online or offline, or leave it out (online with"
            " WANDB_API_KEY, offline without)."
        )
    if online and not has_key:
        raise ConfigurationError(
            "WANDB_MODE=online needs WANDB_API_KEY, which is not set. Set it (hosted W&B: https://wandb.ai/authorize),"
            " or leave WANDB_MODE out to work offline."
        )
    base_url = environ.get("WANDB_BASE_URL") or HOSTED_URL
    if online:
        _check_key(environ["WANDB_API_KEY"])
        _check_url(base_url)
    return Target(
        online=online,
        reason=reason,
        base_url=base_url.rstrip("/"),
        project=settings.wandb_project,
        entity=settings.wandb_entity,
    )


def run_id_for(*parts: str) -> str:
    """Derive a legal run id from parts, such as the id of a DAG and that of its run: the same whenever they are."""
    return sha256_hex("\0".join(parts).encode())[:16]


def _check_key(key: str) -> None:
    """Raise ConfigurationError where this is no key of W&B's, without showing it."""
    if key != key.strip():
        problem = "has a blank or a line break at its beginning or end: write it without"
    elif "'" in key or '"' in key:
        problem = "has quotes in it: write it without (in a file of variables, too)"
    elif not _KEY.fullmatch(key):
        problem = (
            f"is no key of W&B's: that has at least 40 of A-Z, a-z, 0-9 and '_', this one has {len(key)} characters,"
            f" or others among them. Copy it whole ({AUTHORIZE})"
        )
    else:
        return
    raise ConfigurationError(f"WANDB_API_KEY {problem}. Empty it to work offline.")


def _check_url(url: str) -> None:
    """Raise ConfigurationError where this is not the address of a W&B server."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"WANDB_BASE_URL={shlex.quote(url)} is not a URL: {error}.") from None
    if parts.username or parts.password:
        raise ConfigurationError("WANDB_BASE_URL has a login in it: write it without, WANDB_API_KEY is the login.")
    if parts.scheme not in {"http", "https"} or not host or re.search(r"\s", url) or parts.query or parts.fragment:
        raise ConfigurationError(
            f"WANDB_BASE_URL={shlex.quote(url)} is not a URL: write http://host or https://host, with a port if needed,"
            " without blanks, '?' and '#'."
        )
    if re.fullmatch(r"(.+\.)?wandb\.ai", host) and (parts.scheme != "https" or "api." not in host):
        raise ConfigurationError(
            f"WANDB_BASE_URL={shlex.quote(url)} is not where W&B's own server answers: that is {HOSTED_URL}."
        )
