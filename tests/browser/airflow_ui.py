"""Airflow's and MLflow's pages as a user goes through them, for tests and for the README's pictures."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from include.settings import settings
from local_stack.config import Stack

playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright: make setup")

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WIDTH, HEIGHT = 1280, 800
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium")
# a container has no sandbox for it; nothing is asked of Google
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TIMEOUT = 60_000  # milliseconds; the first look at a page takes long on a small machine


def find_chromium() -> str | None:
    """The program of an installed Chromium: that of the variable CHROMIUM, else the first of the usual ones."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CHROMIUM"), *CHROMIUM)))), None)


@contextmanager
def browser_page(executable: str, stack: Stack) -> "Iterator[Page]":
    """A page of a new browser, which gives the stack's login where the view of the buckets asks for it."""
    user, password = stack.login
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            http_credentials={"username": user, "password": password, "origin": stack.objects_url},
        )
        page.set_default_timeout(TIMEOUT)
        try:
            yield page
        finally:
            browser.close()


class AirflowPages:
    """Airflow's UI, in one page of the browser."""

    def __init__(self, page: "Page", stack: Stack) -> None:
        self.page, self.stack = page, stack

    def log_in(self) -> None:
        self.page.goto(f"{self.stack.airflow_url}/auth/login")
        user, password = self.stack.login
        self.page.fill("input[name=username]", user)
        self.page.fill("input[name=password]", password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.stack.airflow_url}/")

    def dag(self, dag_id: str) -> None:
        self.page.goto(f"{self.stack.airflow_url}/dags/{dag_id}")

    def open_trigger_form(self, dag_id: str) -> "Locator":
        """Open the DAG's form by its button, and wait until it can be sent."""
        self.dag(dag_id)
        self.page.get_by_role("button", name="Trigger").first.click()
        form = self.page.get_by_role("dialog")
        playwright.expect(form.get_by_role("button", name="Trigger", exact=True)).to_be_enabled()
        return form

    def trigger(self, dag_id: str) -> None:
        """Trigger the DAG by its button and the form that follows, as it is filled in."""
        form = self.open_trigger_form(dag_id)
        form.get_by_role("button", name="Trigger", exact=True).click()
        form.wait_for(state="hidden")

    def run(self, dag_id: str, run_id: str, task_id: str | None = None) -> None:
        """Open a run, or the details of one of its tasks, where its links are."""
        url = f"{self.stack.airflow_url}/dags/{dag_id}/runs/{quote(run_id, safe='')}"
        self.page.goto(f"{url}/tasks/{quote(task_id, safe='')}/details" if task_id else url)

    def graph(self, dag_id: str, run_id: str | None = None) -> None:
        if run_id:
            self.run(dag_id, run_id)
        else:
            self.dag(dag_id)
        self.page.get_by_role("button", name="Show Graph").click()
        self.page.locator(".react-flow__node").first.wait_for()

    def link(self, name: str) -> "Locator":
        """A button of the task that is open."""
        return self.page.get_by_role("link", name=name, exact=True)


def model_page(stack: Stack, version: str | int | None = None) -> str:
    page = f"{stack.mlflow_url}/#/models/{settings.possum.registered_model_name}"
    return f"{page}/versions/{version}" if version else page
