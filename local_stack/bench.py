"""`make bench`: how long the pipelines take, and where; `make bench-scale`: how that grows with the data.

Every figure comes from this run, on a stack of its own; docs/benchmarks.md is written anew by `make bench`, and
docs/benchmarks-scale.md by `make bench-scale`.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import psutil

from include.churn.generate import write_tables
from include.possum.schema import read_animals
from include.settings import INCLUDE, settings
from local_stack import postgres, services
from local_stack.airflow_api import Airflow
from local_stack.config import PROJECT, Stack
from local_stack.demo import FollowedRun, task_seconds
from local_stack.processes import marked_processes

REPEATS = 5
RUN_TIMEOUT = 3600  # seconds for one run of a pipeline
POLL = 2.0  # seconds between looks at the runs; Airflow's answers take time from what is measured
SAMPLE = 0.2  # seconds between looks at the tasks' memory, in runs of which the time is not taken
BUCKET = "bench"
CHAIN = ("feature_eng", "train", "predict")
POSSUMS = (100, 1_000, 10_000, 100_000, 1_000_000)
CUSTOMERS = (1_000, 10_000, 100_000, 1_000_000)
PAYMENTS_PER_ORDER = 10.0  # at scale: about 10 payments a customer
RUNNING = "SELECT dag_id || '.' || task_id, pid FROM task_instance WHERE state = 'running' AND pid IS NOT NULL"
PARSE = """
import importlib.util, sys, time
from airflow.sdk import DAG, task
started = time.perf_counter()
spec = importlib.util.spec_from_file_location("parsed", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(time.perf_counter() - started)
"""


def main() -> None:
    """Measure on a stack of its own, which is removed in the end."""
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ["LOCAL_STACK_DIR"] = str(home)
    stack = Stack(home)
    services.start(stack)
    try:
        if sys.argv[1:] == ["scale"]:
            write_page("benchmarks-scale.md", scale_page(stack))
        else:
            write_page("benchmarks.md", speed_page(stack))
    finally:
        services.stop(stack)
        shutil.rmtree(home, ignore_errors=True)


def write_page(name: str, sections: Iterator[str]) -> None:
    """Write docs/<name>, headed by date, machine and versions."""
    machine = f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GB"
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("apache-airflow", "mlflow-skinny", "wandb", "scikit-learn")
    )
    head = f"Measured on {datetime.now(UTC):%Y-%m-%d} by `make {name.removesuffix('.md').replace('marks', '')}`: {machine}; "
    head += f"Python {platform.python_version()}, {packages}."
    page = "\n\n".join([f"# {name.removesuffix('.md').capitalize().replace('-', ', ')}", head, *sections])
    (PROJECT / "docs" / name).write_text(page + "\n", encoding="utf-8")
    sys.stdout.write(f"{page}\n")


def table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def spread(values: list[float], digits: int = 1) -> str:
    """Median, and the smallest and largest value."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


# speed


def speed_page(stack: Stack) -> Iterator[str]:
    """The sections of docs/benchmarks.md, measured one after the other."""
    yield f"Seconds, as median of {REPEATS} runs with the smallest and largest in parentheses."
    idle = idle_memory(stack)
    parses = {name: [parse_seconds(name) for _ in range(REPEATS)] for name in (*CHAIN, "customer_analytics")}
    airflow = Airflow(stack)
    for dag_id in (*CHAIN, "customer_analytics"):
        airflow.unpause(dag_id)
    prepare_bucket(stack)
    animals = read_animals(INCLUDE / settings.possum.file_path, settings.possum.file_path)
    # the first runs make buckets and environments; watching their memory would slow the others down
    with watched_memory(stack) as peaks:
        run_chain(airflow, stack, animals)
        run_churn(airflow)
    chains = [run_chain(airflow, stack, animals.sample(frac=1, random_state=n)) for n in range(REPEATS)]
    churns = [run_churn(airflow, hyper_parameters={"min_impurity_decrease": n * 1e-9}) for n in range(1, REPEATS + 1)]
    cold = []
    for n in range(REPEATS):
        shutil.rmtree(stack.home / "prediction-venvs")
        cold += run_chain(airflow, stack, animals.sample(frac=1, random_state=100 + n)).seconds_of("run_prediction")
    yield "## From trigger to end, on a warm stack"
    yield table(
        ("pipeline", "seconds"),
        [
            (
                "feature_eng, train, predict (new data each time, so that a model is trained)",
                spread([c.wall for c in chains]),
            ),
            (
                "customer_analytics (other parameters each time, so that a model is trained; W&B offline)",
                spread([c.wall for c in churns]),
            ),
            ("run_prediction, environment cached", spread([s for c in chains for s in c.seconds_of("run_prediction")])),
            ("run_prediction, environment built from uv's cache", spread(cold)),
        ],
    )
    yield "## `make demo` from a clean clone, packages in the cache"
    yield f"{spread([demo_seconds() for _ in range(REPEATS)])} seconds."
    yield "## Reading a DAG file, in a new process, over importing Airflow"
    yield table(("file", "seconds"), [(f"dags/{name}.py", spread(values, 2)) for name, values in parses.items()])
    yield "## Memory"
    largest = max((peak, task) for task, peak in peaks.items())
    yield (
        f"The idle stack: {idle:.0f} MB (proportional share of all its processes). "
        f"The largest task: {largest[1]}, {largest[0]:.0f} MB resident, of which most is shared with the scheduler that it was "
        "forked from."
    )
    yield "## Each task"
    yield table(("task", "waits in the queue", "runs"), task_rows([*chains, *churns]))


def idle_memory(stack: Stack) -> float:
    """Proportional set size of all processes of the stack in MB, when it has nothing to do."""
    time.sleep(20)  # the first heartbeats and the parsing of the DAG files are over
    total = 0
    for process in marked_processes(stack):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss if platform.system() == "Linux" else process.memory_info().rss
    return total / 1e6


def parse_seconds(dag_id: str) -> float:
    """Seconds that a new process takes to read the DAG file once Airflow is imported."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "AIRFLOW_HOME": tempfile.gettempdir()}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE, PROJECT / "dags" / f"{dag_id}.py"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def demo_seconds() -> float:
    """Seconds of `make demo` in a new clone, on ports that are free."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
        names = ("AIRFLOW", "MLFLOW", "S3", "OBJECTS", "POSTGRES")
        ports = {f"LOCAL_STACK_{name}_PORT": str(28100 + number) for number, name in enumerate(names)}
        environment = {k: v for k, v in os.environ.items() if k != "LOCAL_STACK_DIR"} | ports
        started = time.monotonic()
        subprocess.run(["make", "demo"], cwd=clone, env=environment, stdout=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - started
        subprocess.run(["make", "stop"], cwd=clone, env=environment, check=True)
        return seconds


# runs


class MeasuredRun:
    """One pipeline's run: seconds from trigger to end, and the task instances that had work to do.

    Not skipped ones, and not those that are nothing but a knot of the graph, which no worker gets.
    """

    def __init__(self, wall: float, tasks: list[dict[str, Any]]) -> None:
        self.wall = wall
        self.tasks = [task for task in tasks if task["state"] == "success" and task["queued_when"]]

    def seconds_of(self, task_id: str) -> list[float]:
        """How long each instance of the task ran."""
        return [task_seconds(task) for task in self.tasks if task["task_id"] == task_id]


def run_chain(airflow: Airflow, stack: Stack, animals: pd.DataFrame) -> MeasuredRun:
    """Run the possum chain on these animals."""
    key = f"animals-{time.time_ns()}.csv"
    s3_client(stack).put_object(Bucket=BUCKET, Key=key, Body=animals.to_csv(index=False).encode())
    since = datetime.now(UTC)
    first = airflow.trigger("feature_eng", source=f"s3://{BUCKET}/{key}")
    feature_eng = FollowedRun("feature_eng", lambda: first)
    train = FollowedRun("train", lambda: airflow.triggered_by("train", first, since))
    predict = FollowedRun("predict", lambda: train.run_id and airflow.triggered_by("predict", train.run_id, since))
    return measure(airflow, [feature_eng, train, predict])


def run_churn(airflow: Airflow, **params: Any) -> MeasuredRun:
    """Run customer_analytics with these params."""
    run_id = airflow.trigger("customer_analytics", **params)
    return measure(airflow, [FollowedRun("customer_analytics", lambda: run_id)])


def measure(airflow: Airflow, runs: list[FollowedRun]) -> MeasuredRun:
    """Wait for the runs' end and collect what they took; raises RuntimeError where one fails."""
    deadline = time.monotonic() + RUN_TIMEOUT
    while time.monotonic() < deadline:
        for each in runs:
            each.look(airflow)
        states = {each.state for each in runs}
        if states == {"success"} or "failed" in states:
            break
        time.sleep(POLL)
    if {each.state for each in runs} != {"success"}:
        raise RuntimeError(f"no success: {[(each.dag_id, each.state, each.run_id) for each in runs]}")
    began = datetime.fromisoformat(runs[0].run["run_after"])  # when it was triggered
    ended = max(datetime.fromisoformat(each.run["end_date"]) for each in runs)
    tasks = [task for each in runs for task in each.tasks]
    return MeasuredRun((ended - began).total_seconds(), tasks)


@contextmanager
def watched_memory(stack: Stack) -> Iterator[dict[str, float]]:
    """Meanwhile note the largest resident memory, in MB, of each task with its child processes, by DAG and task."""
    peaks: dict[str, float] = defaultdict(float)
    over = threading.Event()

    def watch() -> None:
        connection = postgres.connect(stack, "airflow")
        with closing(connection), connection.cursor() as cursor:
            while not over.wait(SAMPLE):
                cursor.execute(RUNNING)
                for name, pid in cursor.fetchall():
                    with suppress(psutil.Error):  # has just ended
                        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
                        peaks[name] = max(peaks[name], *(each.memory_info().rss / 1e6 for each in family))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def task_rows(runs: list[MeasuredRun]) -> list[tuple[Any, ...]]:
    """Queue time and run time of each task over all runs."""
    waits, takes = defaultdict(list), defaultdict(list)
    for run in runs:
        for task in run.tasks:
            queued = datetime.fromisoformat(task["queued_when"])
            name = f"{task['dag_id']}: {task['task_id']}"
            waits[name].append((datetime.fromisoformat(task["start_date"]) - queued).total_seconds())
            takes[name].append(task_seconds(task))
    return [(name, spread(waits[name]), spread(takes[name])) for name in takes]


# scale


def scale_page(stack: Stack) -> Iterator[str]:
    """The sections of docs/benchmarks-scale.md."""
    airflow = Airflow(stack)
    for dag_id in (*CHAIN, "customer_analytics"):
        airflow.unpause(dag_id)
    prepare_bucket(stack)
    yield (
        "One run for each size. Seconds that a task ran / its largest resident memory in MB, of which about 400 are what the "
        "scheduler has imported for all tasks; without a figure, a task was over before anybody had looked."
    )
    yield "## Possums"
    yield scale_table(stack, POSSUMS, many_animals, lambda animals: run_chain(airflow, stack, animals))
    yield f"## Customers, with about {PAYMENTS_PER_ORDER:.0f} payments each"
    yield scale_table(
        stack, CUSTOMERS, lambda size: many_customers(stack, size), lambda folder: run_churn(airflow, source=folder)
    )


def scale_table(
    stack: Stack, sizes: tuple[int, ...], make: Callable[[int], Any], run: Callable[[Any], MeasuredRun]
) -> str:
    """A row for each task, a column for each size: what is made for it is run with its memory watched."""
    columns: dict[int, dict[str, str]] = {}
    for size in sizes:
        data = make(size)
        with watched_memory(stack) as peaks:
            measured = run(data)
        seconds: dict[str, float] = defaultdict(float)
        for task in measured.tasks:
            name = f"{task['dag_id']}.{task['task_id']}"
            seconds[name] = max(seconds[name], task_seconds(task))
        columns[size] = {
            name: f"{value:.1f} / {f'{peaks[name]:.0f}' if name in peaks else '-'}" for name, value in seconds.items()
        } | {"from trigger to end": f"{measured.wall:.1f}"}
    names = dict.fromkeys(name for column in columns.values() for name in column if name != "from trigger to end")
    rows = [(name, *(column.get(name, "-") for column in columns.values())) for name in (*names, "from trigger to end")]
    return table(("task", *(f"{size:,}" for size in sizes)), rows)


def many_animals(size: int) -> pd.DataFrame:
    """Animals like the real ones: drawn from them, with measurements a little changed, each a case of its own."""
    rng = np.random.default_rng(size)
    real = read_animals(INCLUDE / settings.possum.file_path, settings.possum.file_path)
    animals = real.sample(size, replace=True, random_state=size).reset_index(drop=True)
    animals[settings.possum.key_column] = np.arange(1, size + 1)
    for column in (*settings.possum.numeric_columns, settings.possum.target_column):
        if column != "age":
            animals[column] = (animals[column] * rng.normal(1, 0.005, size)).round(1)
    return animals


def many_customers(stack: Stack, size: int) -> str:
    """So many customers with many payments each; the folder of their five CSVs for the DAG's param."""
    with tempfile.TemporaryDirectory() as folder:
        write_tables(size, seed=1, out=Path(folder), payments_per_order=PAYMENTS_PER_ORDER)
        for path in Path(folder).iterdir():
            s3_client(stack).upload_file(str(path), BUCKET, f"customers-{size}/{path.name}")
    return f"s3://{BUCKET}/customers-{size}"


def prepare_bucket(stack: Stack) -> None:
    """Make the bucket that the measured runs read from."""
    s3_client(stack).create_bucket(Bucket=BUCKET)


def s3_client(stack: Stack) -> Any:
    """A client of the stack's S3 server."""
    return boto3.client(
        "s3",
        endpoint_url=stack.s3_url,
        aws_access_key_id=stack.secrets.s3_access_key,
        aws_secret_access_key=stack.secrets.s3_secret_key,
        region_name="us-east-1",
    )


if __name__ == "__main__":
    main()
