"""A browser that is logged in to the Airflow of the session's stack; without a Chromium these tests are skipped."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.airflow_ui import AirflowPages, browser_page, find_chromium

if TYPE_CHECKING:
    from tests.support.local_stack import RunningStack


@pytest.fixture(scope="module")  # not session: its event loop would get in the way of code that starts one
def chromium() -> str:
    """The browser's program."""
    found = find_chromium()
    if not found:
        pytest.skip("needs Chromium: apt-get install chromium, or name one by the variable CHROMIUM")
    return found


@pytest.fixture(scope="module")  # not session: its event loop would get in the way of code that starts one
def airflow_pages(chromium: str, stack: "RunningStack") -> "Iterator[AirflowPages]":
    with browser_page(chromium, stack.stack) as page:
        pages = AirflowPages(page, stack.stack)
        pages.log_in()
        yield pages
