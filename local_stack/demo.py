"""`make demo`: run the pipelines as a user would in the UI, follow them live, and show where the results are."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from psycopg import sql
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from include.churn.model_card import CARD_FILE
from include.settings import settings
from local_stack import postgres, services
from local_stack.airflow_api import ENDED, Airflow
from local_stack.config import PROJECT, Stack

RUN_TIMEOUT = 900  # seconds for one pipeline, from trigger to end
POLL = 1.0  # seconds between looks at the runs
ADDRESS = re.compile(r"https?://[^\s,()]+|include/plots/[^\s,]+")  # what a click can open
COLOURS = {"success": "green", "failed": "red", "upstream_failed": "red", "running": "cyan", "up_for_retry": "yellow"}
console = Console(highlight=False, soft_wrap=True)


@dataclass
class FollowedRun:
    """One DAG and its run, as far as it is known."""

    dag_id: str
    find: Callable[[], str | None]
    run_id: str | None = None
    run: dict[str, Any] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Airflow's state of the run, or ``waiting`` before there is one."""
        return self.run.get("state", "waiting")

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        if not self.run.get("start_date"):
            return 0.0
        began = datetime.fromisoformat(self.run["start_date"])
        ended = datetime.fromisoformat(self.run["end_date"]) if self.run.get("end_date") else datetime.now(UTC)
        return (ended - began).total_seconds()

    def look(self, airflow: Airflow) -> None:
        """Fetch the run's present state."""
        self.run_id = self.run_id or self.find()
        if self.run_id and self.state not in ENDED:
            self.run = airflow.run(self.dag_id, self.run_id)
            self.tasks = airflow.tasks(self.dag_id, self.run_id)


def run(stack: Stack) -> int:
    """Run the pipelines, show them, and return the exit code: 0 only where every run has succeeded."""
    airflow = Airflow(stack)
    runs = list(start_runs(airflow))
    succeeded = follow(airflow, runs)
    if succeeded:
        console.print(results_table(runs))
        for line in result_lines(stack, airflow, {each.dag_id: each for each in runs}):
            console.print(clickable(line))
    else:
        for words in failure_lines(airflow, runs):
            console.print(words)
    console.print(
        clickable(f"\nAirflow: {stack.airflow_url}   MLflow: {stack.mlflow_url}   objects: {stack.objects_url}")
    )
    console.print(services.login_line(stack))
    console.print("The stack stays up: make open shows it in the browser, make status, make stop.")
    return 0 if succeeded else 1


def clickable(line: str) -> Text:
    """The line with its addresses and local files as links, where the console is a terminal that knows links."""
    text = Text.from_markup(line)
    for match in ADDRESS.finditer(text.plain):
        url = match[0] if "://" in match[0] else (PROJECT / match[0]).as_uri()
        text.stylize(f"link {url}", *match.span())
    return text


def start_runs(airflow: Airflow) -> Iterator[FollowedRun]:
    """Unpause all DAGs, trigger those that start by hand; the others are started by what these write."""
    since = datetime.now(UTC)
    for dag_id in ("feature_eng", "train", "predict", "customer_analytics"):
        airflow.unpause(dag_id)
    possum = airflow.trigger("feature_eng")
    churn = airflow.trigger("customer_analytics")
    feature_eng = FollowedRun("feature_eng", lambda: possum)
    train = FollowedRun("train", lambda: airflow.triggered_by("train", possum, since))
    predict = FollowedRun("predict", lambda: train.run_id and airflow.triggered_by("predict", train.run_id, since))
    yield from (feature_eng, train, predict, FollowedRun("customer_analytics", lambda: churn))


def follow(airflow: Airflow, runs: list[FollowedRun]) -> bool:
    """Show the runs until all have ended, one has failed, or the time is over; tell whether all have succeeded."""
    deadline = time.monotonic() + RUN_TIMEOUT
    told: set[tuple[str, str, int, str]] = set()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while time.monotonic() < deadline:
            for each in runs:
                each.look(airflow)
            live.update(progress(runs))
            if not console.is_terminal:
                tell_changes(runs, told)
            states = {each.state for each in runs}
            if states <= {"success"} or "failed" in states:
                break
            time.sleep(POLL)
    return all(each.state == "success" for each in runs)


def progress(runs: list[FollowedRun]) -> Group:
    """One line for each DAG, with what runs right now."""
    lines = []
    for each in runs:
        ended = sum(task["state"] in ("success", "skipped") for task in each.tasks)
        line = Text.assemble(
            (f"{each.dag_id:<20}", "bold"),
            (f"{each.state:<9}", COLOURS.get(each.state, "")),
            f"{each.seconds:6.1f} s  ",
            f"{ended:>2} of {len(each.tasks)} tasks  " if each.tasks else "",
        )
        for task in each.tasks:
            if task["state"] in ("running", "up_for_retry", "failed"):
                line.append(f"{label(task)} {task_seconds(task):.0f} s  ", COLOURS[task["state"]])
        lines.append(line)
    return Group(*lines)


def tell_changes(runs: list[FollowedRun], told: set[tuple[str, str, int, str]]) -> None:
    """Where there is no terminal to redraw: a line for each task that has ended."""
    for each in runs:
        for task in each.tasks:
            key = (each.dag_id, task["task_id"], task["map_index"], str(task["state"]))
            if task["state"] in ("success", "failed", "up_for_retry", "upstream_failed") and key not in told:
                told.add(key)
                console.print(f"{each.dag_id:<20}{task['state']:<9}{task_seconds(task):6.1f} s  {label(task)}")


def label(task: dict[str, Any]) -> str:
    """The task's id with the label of its mapped instance."""
    if task["map_index"] < 0:
        return task["task_id"]
    return f"{task['task_id']} ({task.get('rendered_map_index') or task['map_index']})"


def task_seconds(task: dict[str, Any]) -> float:
    """How long the task has run so far."""
    if task["duration"] is not None:
        return task["duration"]
    if not task["start_date"]:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(task["start_date"])).total_seconds()


def results_table(runs: list[FollowedRun]) -> Table:
    """DAG, state, duration."""
    table = Table("DAG", "state", "duration")
    for each in runs:
        table.add_row(each.dag_id, f"[{COLOURS[each.state]}]{each.state}[/]", f"{each.seconds:.1f} s")
    return table


def result_lines(stack: Stack, airflow: Airflow, runs: dict[str, FollowedRun]) -> Iterator[str]:
    """What came out and where it is."""
    yield from possum_lines(stack, airflow, runs["predict"])
    yield from churn_lines(stack, airflow, runs["customer_analytics"])
    yield ""
    for dag_id, each in runs.items():
        yield f"{dag_id + ' run':<24}{stack.airflow_url}/dags/{dag_id}/runs/{quote(str(each.run_id), safe='')}"


def possum_lines(stack: Stack, airflow: Airflow, predict: FollowedRun) -> Iterator[str]:
    """The possum model's figures, and where model, plot and predictions are."""
    run_id = str(predict.run_id)
    model = airflow.xcom("predict", run_id, "fetch_model_run_id", "model")
    plot = airflow.xcom("predict", run_id, "plot_predictions")
    predictions = airflow.xcom("predict", run_id, "save_predictions")
    metrics = model["metrics"]
    yield ""
    yield f"[bold]Possum tails[/] {model['name']} version {model['version']}"
    yield (
        f"  cross-validated   R² {metrics['cv_r2_mean']:.2f} ± {metrics['cv_r2_std']:.2f}, RMSE "
        f"{metrics['cv_rmse_cm_mean']:.2f} cm, on the {metrics['rows_training']:.0f} training animals "
        f"(5-fold, {metrics['cv_repeats']:.0f} times)"
    )
    yield (
        f"  holdout           R² {metrics['holdout_r2']:.2f}, RMSE {metrics['holdout_rmse_cm']:.2f} cm, on "
        f"{metrics['rows_holdout']:.0f} animals the model has not seen; predicting the mean gives "
        f"{metrics['holdout_baseline_rmse_cm']:.2f} cm"
    )
    yield f"  MLflow run        {stack.mlflow_url}/#/experiments/{model['experiment_id']}/runs/{model['run_id']}"
    yield f"  MLflow model      {stack.mlflow_url}/#/models/{model['name']}/versions/{model['version']}"
    here = (
        "" if stack.executor == "celery" else f"include/plots/{settings.possum.plot_file_name}, "
    )  # else on some worker
    yield f"  plot              {here}{stack.page_of(plot['uri'])}"
    yield f"  predictions       {stack.page_of(predictions['uri'])}"


def churn_lines(stack: Stack, airflow: Airflow, churn: FollowedRun) -> Iterator[str]:
    """The churn model's figures, the customers at the highest risk, and where run and model are."""
    trained = airflow.xcom("customer_analytics", str(churn.run_id), "train")
    metrics = trained["metrics"]
    yield ""
    yield f"[bold]Customer churn[/] {settings.churn.artifact_name}"
    yield (
        f"  cross-validated   AUC {metrics['cv_roc_auc_mean']:.2f} ± {metrics['cv_roc_auc_std']:.2f}, on the "
        f"{metrics['training_rows']:.0f} training customers ({metrics['cv_parts']:.0f} parts; guessing: 0.50)"
    )
    yield (
        f"  held out          AUC {metrics['holdout_roc_auc']:.2f}, accuracy {metrics['holdout_accuracy']:.2f}, on "
        f"{metrics['holdout_rows']:.0f} customers the model has not seen; always the more frequent class gives "
        f"{metrics['holdout_baseline_accuracy']:.2f}"
    )
    run_id = str(churn.run_id)
    decision = airflow.xcom("customer_analytics", run_id, "promote_model.compare_with_champion", "decision")
    yield f"  gate              {decision['reason']}"
    drift = airflow.xcom("customer_analytics", run_id, "predict", "drift")
    yield f"  scored by         {drift['model_version']}"
    risks = ", ".join(f"{escape(name)} ({probability:.0%})" for name, probability in top_risks(stack))
    yield f"  top risks         {risks}"
    table = f"{settings.churn.warehouse_schema}.pred_churn"
    yield f"  all of them       table {table} of the warehouse, 127.0.0.1:{stack.ports.postgres}"
    yield f"  W&B run           {escape(trained['wandb_run'])}"
    yield f"  model             {stack.page_of(trained['model_uri'])}"
    yield f"  model card        {stack.page_of(trained['plots'].removesuffix('plots/') + CARD_FILE)}"
    yield f"  plots             {stack.page_of(trained['plots'])}"
    yield f"  drift report      {stack.page_of(drift['report'])}"


def top_risks(stack: Stack) -> list[tuple[str, float]]:
    """Name, or number without one, and churn probability of the three who are most likely to leave and have not left."""
    schema = settings.churn.warehouse_schema
    query = sql.SQL(
        "SELECT coalesce(nullif(btrim(concat(first_name, ' ', last_name)), ''), 'customer ' || customer_id), churn_probability "
        "FROM {} JOIN {} USING (customer_id) "
        "WHERE customer_id NOT IN (SELECT customer_id FROM {}) ORDER BY churn_probability DESC, customer_id LIMIT 3"
    ).format(*(sql.Identifier(schema, table) for table in ("pred_churn", "customers", "customer_churn_month")))
    connection = postgres.connect(stack, "warehouse")
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()
    finally:
        connection.close()


def failure_lines(airflow: Airflow, runs: list[FollowedRun]) -> Iterator[str | Text]:
    """Which run did not succeed, and the end of the log of each failed task."""
    for each in runs:
        if each.state == "success":
            continue
        yield f"[red]{each.dag_id}: {each.state} after {each.seconds:.0f} s[/]"
        for task in each.tasks:
            if task["state"] == "failed":
                yield f"[red]failed task {label(task)}[/], the end of its log:"
                yield Text("\n".join(airflow.log(task).splitlines()[-25:]))
