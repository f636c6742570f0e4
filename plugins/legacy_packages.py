"""Makes the repairs of include/legacy_packages.py in each process before it reads a DAG file.

A DAG file makes them too, but which warnings are shown is as it was once Airflow has read the file.
"""

import include.legacy_packages
