"""What programs of the project find in their environment: a choice from the user's shell, so that nothing else reaches them.

`python local_stack/shell.py COMMAND...` runs a command like that. Only the standard library is imported, because setup.sh
does so before anything is installed.
"""

import functools
import locale
import os
import sys
import sysconfig
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from urllib.request import getproxies

OPTIONS = ("AIRFLOW_PORT", "MLFLOW_PORT", "S3_PORT", "OBJECTS_PORT", "POSTGRES_PORT", "REDIS_PORT", "EXECUTOR")
PREFIX = "LOCAL_STACK_"  # of an option's variable; without it only `make demo MLFLOW_PORT=5001` counts

NEEDED = {
    # where programs, the user's files and temporary files are, and the time zone in which logs and `make status` tell the time
    *("PATH", "HOME", "TMPDIR", "TZ"),
    # where the user's files say which package index to use and how to log in there, and where downloads are kept
    *("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "NETRC"),
    # which certificates to trust
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
    *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    *("MLFLOW_S3_IGNORE_TLS", "WANDB_INSECURE_DISABLE_SSL"),
    # Weights & Biases: which server, whose account, how patient; not a run's id, group or folder, which the pipelines choose
    *("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT"),
    *("WANDB_INIT_TIMEOUT", "WANDB_HTTP_TIMEOUT", "WANDB_FINISH_TIMEOUT"),
    # where packages come from, for the install and for the environment of run_prediction; not which ones, and not where to
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_PROXY"),
    *("PIP_CONFIG_FILE", "PIP_CERT", "PIP_CLIENT_CERT", "PIP_RETRIES", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT"),
    *("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_OFFLINE", "UV_INSECURE_HOST"),
    *("UV_CONFIG_FILE", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "UV_HTTP_RETRIES", "UV_HTTP_TIMEOUT"),
    *("UV_KEYRING_PROVIDER", "UV_CONCURRENT_DOWNLOADS", "UV_LINK_MODE", "UV_CACHE_DIR", "PIP_CACHE_DIR"),
    # how many threads a calculation may have
    "OMP_NUM_THREADS",
    # the stack's own
    *(f"{PREFIX}{name}" for name in ("DIR", *OPTIONS)),
}
# connections; UV_INDEX_URL, UV_INDEX_<NAME>_PASSWORD and so on; and how OpenBLAS has to calculate on this machine's processor
NEEDED_PREFIXES = ("AIRFLOW_CONN_", "UV_INDEX", "OPENBLAS_")
# what the commands show is for a terminal; the browser is that of `make screenshots`
OF_A_TERMINAL = {"TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CHROMIUM"}

PROXIES = ("http", "https", "all")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
UTF8_LOCALES = ("C.UTF-8", "en_US.UTF-8")  # the second one for macOS


def chosen(settings: Collection[str] = ()) -> dict[str, str]:
    """What is let through of this process's environment, with the named settings; proxies never for this machine, and UTF-8."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in NEEDED or name.startswith(NEEDED_PREFIXES) or name.upper() in settings
    }
    return kept | _proxies() | _libraries() | {"LC_ALL": _utf8_locale(), "PYTHONUTF8": "1"}


def _proxies() -> dict[str, str]:
    """HTTP_PROXY and the like in both spellings, of which some programs read the one, some the other.

    On macOS they may come from the system's settings: a NO_PROXY alone would make Python overlook those.
    """
    found = {f"{scheme}_proxy": url for scheme, url in getproxies().items() if scheme in PROXIES}
    own = ",".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")).split(",")
    direct = dict.fromkeys([*filter(None, map(str.strip, own)), *LOOPBACK])
    found["no_proxy"] = "*" if "*" in direct else ",".join(direct)  # a star counts only where it stands alone
    return {spelling: value for name, value in found.items() for spelling in (name, name.upper())}


def _libraries() -> dict[str, str]:
    """The folders of LD_LIBRARY_PATH without which this Python would not start, as that of a module on a cluster."""
    library = sysconfig.get_config_var("INSTSONAME") if sysconfig.get_config_var("Py_ENABLE_SHARED") else None
    folders = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    needed = [folder for folder in folders if library and Path(folder, library).exists()]
    return {"LD_LIBRARY_PATH": os.pathsep.join(needed)} if needed else {}


@functools.cache
def _utf8_locale() -> str:
    """A locale of this machine in which text is UTF-8, whatever the user's is."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in UTF8_LOCALES:
            with suppress(locale.Error):
                return locale.setlocale(locale.LC_CTYPE, name)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return "C"


def enter() -> None:
    """Begin a command: read the settings, and leave of the shell's environment what is let through.

    Tells once of variables that are ignored; ends the command in one line where a setting cannot be used.
    """
    os.umask(os.umask(0o022) | 0o022)  # what the stack keeps is never for others to write
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may know fewer characters
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from include.errors import ConfigurationError

        try:
            from include.settings import Settings
        except ConfigurationError as error:
            sys.exit(f"error: {error}")
    for warning in caught:
        sys.stderr.write(f"warning: {warning.message}\n")
    if former := [name for name in OPTIONS if name in os.environ]:
        renamed = ", ".join(f"{name} is now {PREFIX}{name}" for name in former)
        sys.stderr.write(f"warning: These environment variables are ignored: {renamed}\n")
    left = chosen(Settings.variables()) | _of_a_terminal()
    os.environ.clear()
    os.environ.update(left)


def _of_a_terminal() -> dict[str, str]:
    return {name: os.environ[name] for name in OF_A_TERMINAL if name in os.environ}


if __name__ == "__main__":
    os.execvpe(sys.argv[1], sys.argv[1:], chosen() | _of_a_terminal())  # noqa: S606
