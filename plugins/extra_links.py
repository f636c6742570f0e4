"""Makes the buttons of include/links.py known to Airflow, which shows them in the details of a task."""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from include.links import LINKS


class ExtraLinksPlugin(AirflowPlugin):
    """Registers the classes; DAG files say which task has which."""

    name = "extra_links"
    operator_extra_links: ClassVar[list] = [link() for link in LINKS]
