"""Names for what belongs to one DAG run."""

import re


def run_key(run_id: str) -> str:
    """The run id as one plain folder name: what object stores and file systems treat specially becomes a dash."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", run_id)
