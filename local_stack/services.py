"""Start, stop and look at the processes of the local stack, which supervisord runs."""

import contextlib
import shutil
import subprocess
import sys
import time
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from supervisor.xmlrpc import SupervisorTransport
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from local_stack import postgres, preflight
from local_stack.config import AIRFLOW_PROGRAMS, CELERY_WORKERS, LOG_BUCKET, Ports, Stack
from local_stack.processes import marked_processes

START_TIMEOUT = 180  # seconds for the whole stack to become healthy
STOP_TIMEOUT = 45  # seconds for supervisord to end its processes before they are killed
ANSWER_TIMEOUT = 5  # seconds for a service to say how it is
FIRST_ANSWER_TIMEOUT = 60  # the same while the stack starts
WANT_LOGIN = ("s3", "objects")  # that these refuse who comes without one is enough
console = Console(highlight=False, soft_wrap=True)


class NotRunning(Exception):
    """There is no supervisord to talk to."""


def supervisor(stack: Stack) -> Any:
    """The RPC interface of the stack's supervisord; raises NotRunning."""
    transport = SupervisorTransport(serverurl=f"unix://{stack.socket}")
    proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
    try:
        proxy.getState()
    except (OSError, xmlrpc.client.Error) as error:
        raise NotRunning from error
    return proxy


def is_running(stack: Stack) -> bool:
    """Whether a supervisord of this stack answers."""
    try:
        supervisor(stack)
    except NotRunning:
        return False
    return True


# start


def start(stack: Stack) -> None:
    """Start what does not run yet, and wait until all answers."""
    began = time.monotonic()
    try:
        if not is_running(stack):
            _prepare(stack)
            _start_supervisord(stack)
        with console.status("starting PostgreSQL and the S3 server"):
            _start_programs(stack, "postgres", "s3")
            _ensure_databases(stack)
        with console.status("starting MLflow and Airflow (the first time their databases are made, about a minute)"):
            _start_programs(stack, "mlflow", "objects")
            migrate_airflow(stack)
            _start_programs(stack, *stack.programs)
            wait_until_healthy(stack)
    except StartError as error:
        sys.exit(f"error: {error}")
    console.print(f"The stack is up after {time.monotonic() - began:.0f} s.")


def _prepare(stack: Stack) -> None:
    preflight.check_folder(stack)
    sweep(stack)  # what a killed supervisord has left would hold ports and files
    stack.forget_ports()
    ports, executor = Ports.from_environment(), stack.executor
    if executor == "celery":
        preflight.check_redis()
        (stack.home / "redis").mkdir(exist_ok=True)
        (stack.s3_data / LOG_BUCKET).mkdir(exist_ok=True)  # to rclone a folder is a bucket
    preflight.check_ports(ports, with_redis=executor == "celery")
    stack.keep_ports(ports)
    stack.keep_executor(executor)
    stack.keep_passwords()
    postgres.init_data_folder(stack)


class StartError(Exception):
    """A service did not come up; the message names it, its log, and shows the log's end."""


def _start_supervisord(stack: Stack) -> None:
    configuration = Path(__file__).with_name("supervisord.conf")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", configuration],
        cwd=stack.home,
        env=stack.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise StartError(f"supervisord does not start: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    try:
        Retrying(stop=stop_after_delay(15), wait=wait_fixed(0.05))(supervisor, stack)
    except RetryError:
        raise StartError(_with_log(stack, "supervisord", "does not answer")) from None


def _ensure_databases(stack: Stack) -> None:
    try:
        postgres.ensure_databases(stack)
    except psycopg.OperationalError as error:
        problem = f"does not accept connections ({str(error).strip().splitlines()[-1]})"
        raise StartError(_with_log(stack, "postgres", problem)) from None


def _start_programs(stack: Stack, *names: str) -> None:
    proxy = supervisor(stack)
    for name in names:
        if proxy.getProcessInfo(name)["statename"] not in ("RUNNING", "STARTING", "BACKOFF"):
            proxy.startProcess(name, False)


def migrate_airflow(stack: Stack) -> None:
    """Bring Airflow's database to this version, where that is not done yet."""
    done = subprocess.run(
        [sys.executable, "-m", "local_stack.airflow_database"],
        env=stack.environment(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=START_TIMEOUT,
        check=False,
        cwd=stack.home,
    )
    if done.returncode:
        raise StartError(f"Airflow's database could not be made:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def unhealthy(stack: Stack, seconds: float = ANSWER_TIMEOUT) -> dict[str, str]:
    """The services that do not answer as they should, each with the reason; empty when all is well."""
    airflow = f"http://127.0.0.1:{stack.ports.airflow}"
    addresses = {
        "s3": stack.s3_url,
        "objects": f"http://127.0.0.1:{stack.ports.objects}",
        "mlflow": f"http://127.0.0.1:{stack.ports.mlflow}/health",
        "api-server": f"{airflow}/api/v2/monitor/health",
        # what tasks talk to is made at the first call, which takes seconds: the first task must not wait for it
        "execution API": f"{airflow}/execution/health",
    }
    with ThreadPoolExecutor() as pool:
        answers = dict(zip(addresses, pool.map(lambda url: _get(url, seconds), addresses.values()), strict=True))
    problems = {}
    for name, answer in answers.items():
        service = "api-server" if name == "execution API" else name
        if isinstance(answer, str):
            problems[service] = answer
        elif answer.status_code != 200 and name not in WANT_LOGIN:
            problems[service] = f"HTTP {answer.status_code}"
    if "api-server" not in problems:
        health = answers["api-server"].json()  # type: ignore[union-attr]
        for name in ("scheduler", "dag-processor", "triggerer"):
            if health[name.replace("-", "_")]["status"] != "healthy":
                problems[name] = "no heartbeat"
    return problems


def _get(url: str, seconds: float) -> httpx.Response | str:
    try:
        return httpx.get(url, timeout=seconds, trust_env=False)
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__})"


def wait_until_healthy(stack: Stack) -> None:
    """Wait for all services; raises StartError for one that supervisord has given up, or when time is over."""

    def problems() -> dict[str, str]:
        states = {info["name"]: info["statename"] for info in supervisor(stack).getAllProcessInfo()}
        for name in stack.programs:
            if states[name] == "FATAL":
                raise StartError(_with_log(stack, name, "does not start"))
        # one may answer before supervisord counts it as running, and may yet fall over
        return {name: states[name].lower() for name in stack.programs if states[name] != "RUNNING"} | unhealthy(
            stack, FIRST_ANSWER_TIMEOUT
        )

    try:
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(START_TIMEOUT), wait=wait_fixed(0.5))(problems)
    except RetryError as error:
        name, reason = next(iter(error.last_attempt.result().items()))
        raise StartError(_with_log(stack, name, f"is not healthy after {START_TIMEOUT} s: {reason}")) from None


def _with_log(stack: Stack, name: str, problem: str) -> str:
    log = stack.logs / f"{name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if log.exists() else []
    return "\n".join([f"{name} {problem}; the end of {log}:", *lines])


# stop


def stop(stack: Stack) -> None:
    """End every process of the stack, also those that a killed supervisord has left; the state folder stays."""
    with contextlib.suppress(NotRunning, OSError, xmlrpc.client.Error):
        proxy = supervisor(stack)
        pid = proxy.getPID()
        # all of Airflow at once; what they need ends after them, one after the other, in the order of supervisord.conf
        for name in (*AIRFLOW_PROGRAMS, *CELERY_WORKERS):
            with contextlib.suppress(xmlrpc.client.Fault):  # it does not run
                proxy.stopProcess(name, False)
        proxy.shutdown()
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired), console.status("stopping"):
            psutil.Process(pid).wait(STOP_TIMEOUT)
    sweep(stack)
    stack.socket.unlink(missing_ok=True)
    stack.forget_ports()


def clean(stack: Stack) -> None:
    """Stop the stack and remove its folder; anything but a stack's folder is left alone."""
    stop(stack)
    if preflight.holds_other_things(stack):
        sys.exit(f"error: {stack.home} is not the folder of a stack (LOCAL_STACK_DIR): nothing was removed")
    try:
        if stack.home.exists():
            shutil.rmtree(stack.home)
    except OSError as error:
        sys.exit(f"error: {stack.home} could not be removed completely: {error}")


def sweep(stack: Stack) -> None:
    """End all marked processes: politely, then by force."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        processes = marked_processes(stack)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        psutil.wait_procs(processes, timeout=10)


# look


def print_status(stack: Stack) -> bool:
    """Print what runs where and since when; return whether all is well."""
    try:
        infos = {info["name"]: info for info in supervisor(stack).getAllProcessInfo()}
    except NotRunning:
        leftover = marked_processes(stack)
        console.print("The stack is not running (make start).")
        if leftover:
            console.print(f"{len(leftover)} processes of it are left over: make stop ends them.")
        return False
    problems = unhealthy(stack)
    where = {
        "postgres": f"127.0.0.1:{stack.ports.postgres}",
        "s3": stack.s3_url,
        "objects": stack.objects_url,
        "mlflow": stack.mlflow_url,
        "api-server": stack.airflow_url,
    }
    # narrow enough for 80 columns: only what is wrong with a service may take a second line
    name_column, pid, since_column, url = (Column(name, no_wrap=True) for name in ("service", "pid", "since", "where"))
    table = Table(name_column, "state", pid, since_column, url, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in stack.programs:
        info = infos[name]
        running = info["statename"] == "RUNNING"
        problem = problems.get(name) if running else info["description"]
        state = info["statename"].lower() + (f", {problem}" if problem else "")
        since = f"{datetime.fromtimestamp(info['start'], UTC).astimezone():%Y-%m-%d %H:%M:%S}" if running else ""
        colour = "green" if running and name not in problems else "red"
        table.add_row(name, f"[{colour}]{state}[/]", str(info["pid"] or ""), since, where.get(name, ""))
    console.print(table)
    console.print(login_line(stack))
    console.print(f"State and logs: {escape(str(stack.home))}")
    return not problems and all(infos[name]["statename"] == "RUNNING" for name in stack.programs)


def login_line(stack: Stack) -> str:
    """With what one logs in."""
    user, password = stack.login
    return f"Login for Airflow and objects: {user}, password {escape(password)}"


def follow_logs(stack: Stack, name: str | None) -> int:
    """Show the end of the services' logs and follow them until interrupted."""
    names = [name] if name else list(stack.programs)
    files = [str(stack.logs / f"{each}.log") for each in names if (stack.logs / f"{each}.log").exists()]
    if not files:
        sys.exit(f"error: no log of {', '.join(names)} below {stack.logs}: is the stack started? (make start)")
    with contextlib.suppress(KeyboardInterrupt):
        return subprocess.run(["tail", "-n", "20", "-F", *files], check=False).returncode
    return 0
