"""`make screenshots`: make the pictures of docs/images anew, from the running stack after `make demo`."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from include.settings import INCLUDE, settings
from local_stack import services
from local_stack.config import PROJECT, Stack
from local_stack.demo import Airflow
from tests.browser.airflow_ui import AirflowPages, browser_page, find_chromium, model_page

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Page

IMAGES = PROJECT / "docs" / "images"
DAGS = ("feature_eng", "train", "predict", "customer_analytics")
COLOURS = 128  # of a palette: enough for a user interface, and a quarter of the bytes
LARGEST = 150_000  # bytes
MARGIN = 16  # pixels around a graph


def main() -> int:
    """Make all pictures; the exit code is 0 where each is there and small."""
    stack, chromium = Stack(), find_chromium()
    if not chromium:
        sys.exit("error: no Chromium: apt-get install chromium, or name one by the variable CHROMIUM")
    if not services.is_running(stack):
        sys.exit("error: the stack does not run: make demo")
    airflow = Airflow(stack)
    runs = {dag_id: last_run(airflow, dag_id) for dag_id in DAGS}
    IMAGES.mkdir(exist_ok=True)
    with browser_page(chromium, stack) as page:
        take_airflow(page, stack, runs)
        take_mlflow(page, stack, airflow, runs["predict"])
    save("plot", (INCLUDE / "plots" / settings.possum.plot_file_name).read_bytes())
    large = [path.name for path in IMAGES.glob("*.png") if path.stat().st_size > LARGEST]
    return 1 if large else 0


def last_run(airflow: Airflow, dag_id: str) -> str:
    """The newest successful run."""
    found = airflow.get(f"/dags/{dag_id}/dagRuns", order_by="-start_date", state="success", limit=1)["dag_runs"]
    if not found:
        sys.exit(f"error: {dag_id} has not run successfully yet: make demo")
    return found[0]["dag_run_id"]


def take_airflow(page: "Page", stack: Stack, runs: dict[str, str]) -> None:
    """Home, the graph of each DAG, a task with its buttons."""
    pages = AirflowPages(page, stack)
    pages.log_in()
    page.goto(f"{stack.airflow_url}/dags")
    settle(page, lambda: page.get_by_role("link", name="feature_eng", exact=True))
    # the bars of recent runs come later than the list
    page.wait_for_timeout(2000)
    save("airflow-home", page.screenshot(clip={"x": 0, "y": 0, "width": 1280, "height": 690}))
    for dag_id, run_id in runs.items():
        pages.graph(dag_id, run_id)
        page.get_by_label("Collapse Details Panel").click()
        page.wait_for_timeout(1000)
        page.locator(".react-flow__controls-fitview").click()
        page.wait_for_timeout(1500)
        page.add_style_tag(content=".react-flow__minimap, .react-flow__panel {display: none !important}")
        save(f"graph-{dag_id}", page.screenshot(clip=around_nodes(page)))
    pages.run("feature_eng", runs["feature_eng"], "build_features")
    settle(page, lambda: pages.link("MLflow run"))
    save("airflow-links", page.screenshot())


def around_nodes(page: "Page") -> "FloatRect":
    """The part of the page that the graph's nodes are in, with a margin."""
    boxes = [box for box in (node.bounding_box() for node in page.locator(".react-flow__node").all()) if box]
    left, top = min(box["x"] for box in boxes) - MARGIN, min(box["y"] for box in boxes) - MARGIN
    right = max(box["x"] + box["width"] for box in boxes) + MARGIN
    bottom = max(box["y"] + box["height"] for box in boxes) + MARGIN
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def take_mlflow(page: "Page", stack: Stack, airflow: Airflow, predict: str) -> None:
    """The model's run, its plot among the artifacts, the registered model and the champion's version."""
    run = airflow.xcom("predict", predict, "plot_predictions", "link.mlflow_run")
    version = airflow.xcom("predict", predict, "fetch_model_run_id", "model")["version"]
    page.goto(run)
    page.get_by_role("button", name="Model training").click()
    # MLflow offers an assistant of its own beside the page
    page.get_by_role("button", name="Close").last.click()
    page.goto(run)
    settle(page, lambda: page.get_by_role("heading", name="RidgeCV"))
    save("mlflow-run", page.screenshot())
    page.goto(f"{run}/artifacts/plots/{settings.possum.plot_file_name}")
    settle(page, lambda: page.locator("img[src^='blob:']"))
    save("mlflow-plot", page.screenshot())
    for name, address in (("model", model_page(stack)), ("version", model_page(stack, version))):
        page.goto(address)
        settle(page, lambda: page.get_by_text("Description").first)
        save(f"mlflow-{name}", page.screenshot())


def settle(page: "Page", awaited: Callable[[], Any]) -> None:
    """Wait until something is there, and then for what comes after it."""
    awaited().first.wait_for()
    page.wait_for_timeout(2500)


def save(name: str, png: bytes) -> None:
    """Write a picture with a palette, and say how large it is."""
    path = IMAGES / f"{name}.png"
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.width > 1280:
        picture = picture.resize((1280, round(picture.height * 1280 / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    sys.stdout.write(
        f"{path.relative_to(Path.cwd())}: {picture.width} x {picture.height}, {path.stat().st_size} bytes\n"
    )


if __name__ == "__main__":
    sys.exit(main())
