"""Bring Airflow's metadata database to the installed version and make the user: `python -m ... USER PASSWORD`.

One process instead of `airflow db migrate` and `airflow users create`, as each spends most of its time on imports.
"""

import sys

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.db import check_migrations, upgradedb

user, password = sys.argv[1:]
try:
    check_migrations(timeout=0)
except TimeoutError:
    upgradedb()
with get_application_builder() as builder:
    manager = builder.sm
    if not manager.find_user(username=user):
        manager.add_user(user, user, user, f"{user}@example.com", manager.find_role("Admin"), password=password)
