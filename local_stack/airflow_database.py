"""Bring Airflow's metadata database to the installed version, where that is not done yet."""

from airflow.utils.db import check_migrations, upgradedb

try:
    check_migrations(timeout=0)
except TimeoutError:
    upgradedb()
