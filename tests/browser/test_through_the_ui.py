"""What a user does in the browser: log in, trigger, watch, and click through to run, plot and model."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tenacity import Retrying, retry_if_not_result, stop_after_delay, wait_fixed

from include.datasets import MODEL_TRAINED
from include.possum.plots import HEIGHT_PIXELS, WIDTH_PIXELS
from include.settings import settings
from tests.browser.airflow_ui import AirflowPages, playwright
from tests.support.local_stack import RUN_TIMEOUT, RunningStack

if TYPE_CHECKING:
    from playwright.sync_api import Page

PIXELS = [WIDTH_PIXELS, HEIGHT_PIXELS]
SIZE = "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
POSSUM_DAGS = ("feature_eng", "train", "predict")
expect = playwright.expect


@pytest.fixture(autouse=True)
def picture_of_failure(request: Any, airflow_pages: AirflowPages, tmp_path: Path) -> Iterator[None]:
    """Where a test fails, its output says where a picture of the page is."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        airflow_pages.page.screenshot(path=tmp_path / "page.png")
        print(f"the page at the end: {tmp_path}/page.png, {airflow_pages.page.url}")  # noqa: T201


@pytest.fixture(scope="module")
def runs(airflow_pages: AirflowPages, stack: RunningStack) -> dict[str, str]:
    """A run of each DAG of the possum pipeline.

    That of feature_eng is triggered in the UI. Of the others it is the newest that an asset has triggered, or, if there is
    none yet, the one that follows.
    """
    stack.airflow.unpause_all(*POSSUM_DAGS)
    began = datetime.now(UTC)
    airflow_pages.trigger("feature_eng")
    triggered = Retrying(retry=retry_if_not_result(bool), stop=stop_after_delay(60), wait=wait_fixed(0.5))(
        lambda: stack.airflow.get("/dags/feature_eng/dagRuns", start_date_gte=began.isoformat())["dag_runs"]
    )
    found = {"feature_eng": triggered[0]["dag_run_id"]}
    stack.airflow.wait_for_success("feature_eng", found["feature_eng"])
    for before, after in (("feature_eng", "train"), ("train", "predict")):
        earlier = stack.airflow.get(f"/dags/{after}/dagRuns", state="success", order_by="-start_date")["dag_runs"]
        newest = next((run["dag_run_id"] for run in earlier if run["run_type"] == "asset_triggered"), None)
        found[after] = newest or stack.airflow.wait_for_triggered(after, found[before])
        stack.airflow.wait_for_success(after, found[after])
    return found


@pytest.fixture
def page(airflow_pages: AirflowPages) -> "Page":
    return airflow_pages.page


@pytest.mark.timeout(2 * RUN_TIMEOUT)
@pytest.mark.parametrize("dag_id", POSSUM_DAGS)
def test_dags_turn_green(airflow_pages: AirflowPages, page: "Page", runs: dict[str, str], dag_id: str) -> None:
    airflow_pages.run(dag_id, runs[dag_id])
    expect(page.get_by_role("heading", name=runs[dag_id], exact=True)).to_be_visible()
    expect(page.get_by_test_id("state-badge").first).to_have_text("Success")


def test_home_lists_every_dag_with_its_tags(airflow_pages: AirflowPages, page: "Page", stack: RunningStack) -> None:
    page.goto(f"{stack.stack.airflow_url}/dags")
    for dag_id in (*POSSUM_DAGS, "customer_analytics", "doctor"):
        expect(page.get_by_role("link", name=dag_id, exact=True).first).to_be_visible()
    expect(page.locator("a", has_text="possum").first).to_be_visible()


def test_docs_show_the_flow_line_by_line(airflow_pages: AirflowPages, page: "Page") -> None:
    airflow_pages.dag("train")
    page.get_by_role("button", name="Dag Docs").click()
    drawing = page.get_by_role("dialog").locator("code", has_text="fetch_feature_df").last
    expect(drawing).to_contain_text("promote_model")
    assert drawing.evaluate("code => getComputedStyle(code).whiteSpace").startswith("pre")


def test_docs_of_a_task_say_what_it_does(page: "Page", stack: RunningStack) -> None:
    page.goto(f"{stack.stack.airflow_url}/dags/train/tasks/train_model")
    page.get_by_role("button", name="Documentation", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("Train the model")


def test_trigger_form_describes_and_checks_its_params(airflow_pages: AirflowPages) -> None:
    form = airflow_pages.open_trigger_form("feature_eng")
    expect(form.get_by_text("A path relative to include/, or s3://bucket/key")).to_be_visible()
    form.locator("#element_source").fill("/etc/passwd")
    form.get_by_role("button", name="Trigger", exact=True).click()
    expect(form).to_contain_text("does not match")


def test_button_leads_to_the_mlflow_run_with_the_plot(
    airflow_pages: AirflowPages, page: "Page", runs: dict[str, str], stack: RunningStack
) -> None:
    airflow_pages.run("predict", runs["predict"], "plot_predictions")
    with page.context.expect_page() as opened:
        airflow_pages.link("MLflow run").click()
    run = opened.value
    try:
        expect(run.get_by_role("heading", name="RidgeCV")).to_be_visible()
        assert run.url.startswith(f"{stack.stack.mlflow_url}/#/experiments/")
        run.goto(f"{run.url.split('?')[0]}/artifacts/plots/{settings.possum.plot_file_name}")
        picture = run.locator("img[src^='blob:']").first
        expect(picture).to_be_visible()
        assert picture.evaluate(SIZE) == PIXELS
    finally:
        run.close()


def test_button_leads_to_the_plot_in_its_bucket(
    airflow_pages: AirflowPages, page: "Page", runs: dict[str, str]
) -> None:
    airflow_pages.run("predict", runs["predict"], "plot_predictions")
    with page.context.expect_page() as opened:
        airflow_pages.link("Objects").click()
    picture = opened.value
    try:
        assert picture.locator("img").evaluate(SIZE) == PIXELS
    finally:
        picture.close()


@pytest.mark.parametrize(
    ("dag_id", "task_id", "names"),
    [
        ("feature_eng", "build_features", {"MLflow experiment", "MLflow run"}),  # Astro SDK
        ("train", "train_model", {"MLflow experiment", "MLflow run"}),  # TaskFlow
        ("train", "register_model.create_model_version", {"MLflow model"}),  # the provider's operator
        ("feature_eng", "end", set()),
    ],
)
def test_each_button_leads_to_a_page_that_is_there(
    airflow_pages: AirflowPages, page: "Page", runs: dict[str, str], dag_id: str, task_id: str, names: set[str]
) -> None:
    airflow_pages.run(dag_id, runs[dag_id], task_id)
    expect(page.get_by_text("Task ID", exact=True)).to_be_visible()
    if not names:
        expect(page.get_by_text("Extra Links")).to_have_count(0)
    for name in names:
        button = airflow_pages.link(name)
        expect(button).to_be_enabled()
        with page.context.expect_page() as opened:
            button.click()
        expect(opened.value.locator("h1, h2, h3").first).to_be_visible()
        expect(opened.value.locator("body")).not_to_contain_text("not found", ignore_case=True)
        opened.value.close()


def test_graph_of_customer_analytics(airflow_pages: AirflowPages, page: "Page") -> None:
    airflow_pages.graph("customer_analytics")
    for name in ("extract_and_load", "transform", "features", "train", "predict"):
        expect(page.locator(".react-flow__node").get_by_text(name, exact=True).first).to_be_visible()


def test_graph_of_an_asset_shows_who_updates_it_and_whom_it_starts(page: "Page", stack: RunningStack) -> None:
    page.goto(f"{stack.stack.airflow_url}/assets")
    page.get_by_role("link", name=MODEL_TRAINED.name, exact=True).click()
    for name in (MODEL_TRAINED.name, "end", "predict"):
        expect(page.locator(".react-flow__node").get_by_text(name, exact=True).first).to_be_visible()
