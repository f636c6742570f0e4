"""The local stack's PostgreSQL: its data folder and its databases. supervisord runs the server itself."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from include.settings import settings
from local_stack.config import DATABASES, POSTGRES_BIN, POSTGRES_INSTALLED, POSTGRES_SYSTEM_USER, Stack


def init_data_folder(stack: Stack) -> None:
    """Make the database cluster where there is none; its superuser has the password of the airflow role."""
    data = stack.postgres_data
    if os.geteuid() == 0:
        _prepare_for_other_user(data)
    if (data / "PG_VERSION").exists():
        return
    # what an interrupted initdb has left behind; a finished one has written PG_VERSION
    for leftover in data.iterdir() if data.exists() else ():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    # not in the temporary folder, which may be one that the other user cannot enter
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=stack.home) as password:
        password.write(f"{stack.secrets.airflow_password}\n")
        password.flush()
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(POSTGRES_SYSTEM_USER)
            os.chown(password.name, account.pw_uid, -1)
            # the groups too: with root's, a folder that others may pass through stays closed for a member of root's group
            as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [
                *(POSTGRES_BIN / "initdb", "-D", data, "-U", "postgres", f"--pwfile={password.name}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            cwd="/",
            **as_user,
        )
    if done.returncode:
        sys.exit(f"error: PostgreSQL cannot make its data folder {data}: {done.stderr.strip().splitlines()[-1]}")


def _prepare_for_other_user(data: Path) -> None:
    """Running as root: give the data to a user of its own, and let that user reach them and the server's program."""
    try:
        account = pwd.getpwnam(POSTGRES_SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", POSTGRES_SYSTEM_USER]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(
                f"error: PostgreSQL refuses to run as root, and its user {POSTGRES_SYSTEM_USER} could not be made ({error}): "
                "make one, or start the stack as another user than root"
            )
        account = pwd.getpwnam(POSTGRES_SYSTEM_USER)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chown(data, account.pw_uid, account.pw_gid)
    for folder in {*data.parents, *POSTGRES_BIN.parents}:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)  # may be passed through, not listed
    _let_others_read_the_server()


def _let_others_read_the_server() -> None:
    """What was unpacked with a umask that keeps others out, if only into uv's cache."""
    folders = POSTGRES_INSTALLED.parent.glob(f"{POSTGRES_INSTALLED.name}*")  # with its libraries
    for path in (each for folder in folders for each in (folder, *folder.rglob("*"))):
        mode = path.lstat().st_mode
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode and not path.is_symlink():
            path.chmod(wanted)


@retry(
    retry=retry_if_exception_type(psycopg.OperationalError),
    stop=stop_after_delay(30),
    wait=wait_fixed(0.2),
    reraise=True,
)
def connect(stack: Stack, database: str = "postgres") -> psycopg.Connection:
    """Connect as superuser, waiting up to 30 s for a server that is starting."""
    return psycopg.connect(
        host="127.0.0.1",
        port=stack.ports.postgres,
        user="postgres",
        password=stack.secrets.airflow_password,
        dbname=database,
        connect_timeout=3,
        autocommit=True,
    )


def ensure_databases(stack: Stack) -> None:
    """Make the databases and their roles where they are missing; no role may connect to another one's.

    Airflow's and MLflow's role own their databases. The warehouse belongs to the superuser, also where an earlier version
    made it; its role owns the schema of the tables.
    """
    with closing(connect(stack)) as connection, connection.cursor() as cursor:
        # Stretching makes weak passwords hard to guess. These are 160 random bits, and a task logs in some twenty times.
        cursor.execute("SET scram_iterations = 1")
        for name in DATABASES:
            identifier, password = sql.Identifier(name), sql.Literal(getattr(stack.secrets, f"{name}_password"))
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(identifier, password))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
            owner = sql.Identifier("postgres" if name == "warehouse" else name)
            cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(identifier, owner))
        for name in (*DATABASES, "postgres", "template1"):
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        cursor.execute("REVOKE ALL ON DATABASE warehouse FROM warehouse")
        cursor.execute("GRANT CONNECT ON DATABASE warehouse TO warehouse")
    schema = sql.Identifier(settings.churn.warehouse_schema)
    with closing(connect(stack, "warehouse")) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
        cursor.execute(sql.SQL("ALTER SCHEMA {} OWNER TO warehouse").format(schema))
        cursor.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
