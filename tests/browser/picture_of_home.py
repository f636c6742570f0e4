"""A screenshot of Airflow's list of DAGs: ``python -m tests.browser.picture_of_home STATE_FOLDER PICTURE``."""

import sys
from pathlib import Path

from local_stack.config import Stack
from tests.browser.airflow_ui import AirflowPages, browser_page, find_chromium


def main(state_folder: str, picture: str) -> None:
    chromium = find_chromium()
    if not chromium:
        sys.exit("Chromium is not installed")
    stack = Stack(Path(state_folder))
    with browser_page(chromium, stack) as page:
        page.set_default_timeout(20_000)
        AirflowPages(page, stack).log_in()
        page.goto(f"{stack.airflow_url}/dags")
        page.get_by_text("feature_eng").first.wait_for()
        page.screenshot(path=picture, full_page=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
