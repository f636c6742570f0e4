"""What `make demo` shows, of made-up runs and results; the demo itself runs in tests/faults."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from local_stack import demo
from local_stack.config import PROJECT, Ports
from local_stack.demo import FollowedRun, churn_lines, clickable, failure_lines, progress, results_table, tell_changes

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def made_up_task(task_id: str, state: str | None, duration: float | None = None, **others: Any) -> dict[str, Any]:
    return {"task_id": task_id, "state": state, "duration": duration, "map_index": -1, "start_date": None} | others


def made_up_run(state: str, *tasks: dict[str, Any], seconds: float = 12.34, dag_id: str = "train") -> FollowedRun:
    ended = (BEGAN + timedelta(seconds=seconds)).isoformat()
    run = {"state": state, "start_date": BEGAN.isoformat(), "end_date": ended}
    return FollowedRun(dag_id, lambda: "run", "run", run, list(tasks))


def shown(renderable: Any) -> list[str]:
    """The lines that a console prints, without colours."""
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def told(monkeypatch, capsys):
    """What tell_changes prints, call by call."""
    monkeypatch.setattr(demo, "console", Console(width=200, color_system=None, highlight=False, soft_wrap=True))
    known: set[tuple[str, str, int, str]] = set()

    def tell(*runs: FollowedRun) -> list[str]:
        tell_changes(list(runs), known)
        return capsys.readouterr().out.splitlines()

    return tell


def test_progress_is_a_line_for_each_dag_with_what_runs_and_what_failed():
    began = (datetime.now(UTC) - timedelta(seconds=7.2)).isoformat()
    running = made_up_run(
        "running",
        made_up_task("fetch", "success", 3.0),
        made_up_task("skipped_one", "skipped", 0.0),
        made_up_task("fit", "running", start_date=began),
        made_up_task("make", "up_for_retry", 2.4, map_index=1, rendered_map_index="data"),
        made_up_task("draw", "failed", 5.0),
        made_up_task("later", None),
    )
    waiting = FollowedRun("predict", lambda: None)

    first, second = shown(progress([running, waiting]))

    assert first == ("train               running    12.3 s   2 of 6 tasks  fit 7 s  make (data) 2 s  draw 5 s")
    assert second == "predict             waiting     0.0 s"


def test_a_change_is_told_once_with_dag_state_seconds_and_task(told):
    fetch, fit = made_up_task("fetch", "success", 3.04), made_up_task("fit", "running", start_date=BEGAN.isoformat())
    assert told(made_up_run("running", fetch, fit)) == ["train               success     3.0 s  fetch"]
    assert told(made_up_run("running", fetch, fit)) == []
    failed = made_up_task("fit", "failed", 61.26)
    assert told(made_up_run("failed", fetch, failed)) == ["train               failed     61.3 s  fit"]


def test_each_state_of_a_task_and_each_mapped_instance_is_told(told):
    first = made_up_task("make", "up_for_retry", 1.0, map_index=0, rendered_map_index="data")
    second = made_up_task("make", "success", 2.0, map_index=1)
    assert told(made_up_run("running", first, second, dag_id="feature_eng")) == [
        "feature_eng         up_for_retry   1.0 s  make (data)",
        "feature_eng         success     2.0 s  make (1)",
    ]
    assert told(made_up_run("running", first | {"state": "success"}, second, dag_id="feature_eng")) == [
        "feature_eng         success     1.0 s  make (data)"
    ]


def test_addresses_and_plots_are_links_and_nothing_else_is():
    text = clickable("  [bold]plot[/] include/plots/tails.png, s3://data/tails.png (http://localhost:5000/#/runs/1)")

    assert text.plain == "  plot include/plots/tails.png, s3://data/tails.png (http://localhost:5000/#/runs/1)"
    links = {text.plain[span.start : span.end]: str(span.style) for span in text.spans if "link" in str(span.style)}
    assert links == {
        "include/plots/tails.png": f"link {(PROJECT / 'include/plots/tails.png').as_uri()}",
        "http://localhost:5000/#/runs/1": "link http://localhost:5000/#/runs/1",
    }


def test_results_are_a_table_of_dag_state_and_duration():
    lines = shown(results_table([made_up_run("success"), made_up_run("failed", seconds=3, dag_id="predict")]))
    words = [line.replace("│", " ").split() for line in lines]
    assert ["train", "success", "12.3", "s"] in words
    assert ["predict", "failed", "3.0", "s"] in words


def test_a_failed_task_shows_the_end_of_its_log():
    airflow = SimpleNamespace(log=lambda task: "\n".join(f"{task['task_id']} line {number}" for number in range(40)))
    runs = [made_up_run("success"), made_up_run("failed", made_up_task("fit", "failed", 1.0), dag_id="predict")]

    headline, task, log = (str(line) for line in failure_lines(airflow, runs))  # type: ignore[arg-type]

    assert headline == "[red]predict: failed after 12 s[/]"
    assert task == "[red]failed task fit[/], the end of its log:"
    assert log.splitlines() == [f"fit line {number}" for number in range(15, 40)]


def test_churn_lines_tell_figures_gate_risks_and_where_all_is(monkeypatch):
    metrics = {
        "cv_roc_auc_mean": 0.7412,
        "cv_roc_auc_std": 0.128,
        "cv_parts": 25.0,
        "training_rows": 64.0,
        "holdout_roc_auc": 0.771,
        "holdout_accuracy": 0.694,
        "holdout_rows": 36.0,
        "holdout_baseline_accuracy": 0.5556,
    }
    trained = {
        "metrics": metrics,
        "wandb_run": "/runs/offline-run-1",
        "model_uri": "s3://m/model",
        "plots": "s3://m/plots/",
    }
    xcoms = {
        ("train", "return_value"): trained,
        ("promote_model.compare_with_champion", "decision"): {"reason": "promoted: better"},
        ("predict", "drift"): {"model_version": "churn_classifier:v3", "report": "s3://m/drift/report.html"},
    }
    airflow = SimpleNamespace(xcom=lambda dag, run, task, key="return_value": xcoms[task, key])
    monkeypatch.setattr(demo, "top_risks", lambda _: [("Ada L.", 0.664), ("Bea M.", 0.5)])
    stack = SimpleNamespace(ports=Ports(postgres=5433), page_of=lambda uri: uri.replace("s3://", "http://objects/"))

    said = "\n".join(churn_lines(stack, airflow, made_up_run("success", dag_id="customer_analytics")))  # type: ignore[arg-type]

    for words in (
        "AUC 0.74 ± 0.13, on the 64 training customers (25 parts; guessing: 0.50)",
        "AUC 0.77, accuracy 0.69, on 36 customers the model has not seen; always the more frequent class gives 0.56",
        "gate              promoted: better\n",
        "scored by         churn_classifier:v3\n",
        "top risks         Ada L. (66%), Bea M. (50%)\n",
        "table tmp_astro.pred_churn of the warehouse, 127.0.0.1:5433\n",
        "W&B run           /runs/offline-run-1\n",
        "model             http://objects/m/model\n",
        "model card        http://objects/m/model_card.md\n",
        "plots             http://objects/m/plots/\n",
        "drift report      http://objects/m/drift/report.html",
    ):
        assert words in said
