"""Whether a part of Airflow is well, asked of the api-server: what the health checks of the containers run.

    python docker/airflow-health.py metadatabase | scheduler | dag_processor | triggerer

The api-server's own check asks for `metadatabase`, and first for what tasks call. Airflow builds those routes at the first
call, which takes 10 to 60 seconds and so longer than a task waits: until then the api-server is not up.
"""

import json
import os
import sys
from urllib.parse import urljoin
from urllib.request import ProxyHandler, Request, build_opener

part = sys.argv[1]
tasks_api = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]  # .../execution/
api_server = build_opener(ProxyHandler({}))  # within the stack, whatever proxy .env names
try:
    if part == "metadatabase":
        # where nobody has to log in Airflow adds a user's token to a call without a word on who calls, and then warns of it here
        first = Request(urljoin(tasks_api, "health"), headers={"Authorization": "none"})  # noqa: S310 (of the stack itself)
        api_server.open(first, timeout=60).close()
    with api_server.open(urljoin(tasks_api, "../api/v2/monitor/health"), timeout=10) as answer:
        status = json.load(answer)[part]["status"]
except OSError as error:
    sys.exit(f"error: the api-server does not answer: {error}")
if status != "healthy":
    sys.exit(f"error: {part} is {status}")
