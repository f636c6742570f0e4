"""From CSV to warehouse table: checked first, then loaded by the Astro SDK with COPY."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.exceptions import AirflowSkipException
from airflow.utils.context import Context
from astro.databases import CONN_TYPE_TO_MODULE_PATH
from astro.dataframes.load_options import PandasLoadOptions
from astro.files import File
from astro.sql.operators.load_file import LoadFileOperator
from astro.table import Metadata, Table

from include.object_store import sha256_hex
from include.servers.postgres import postgres_server
from include.settings import settings
from include.task_errors import fail_at_once

# a class WarehouseDatabase: the SDK's own gives the options of a connection, such as sslmode, to half of its statements only
CONN_TYPE_TO_MODULE_PATH["postgres"] = "include.warehouse"

STAGING_PREFIX = "stg_"
DIGEST = "sha256"  # XCom's key


def warehouse_table(name: str) -> Table:
    """A table of the churn pipeline in the warehouse."""
    return Table(
        name=name, conn_id=settings.postgres_conn_id, metadata=Metadata(schema=settings.churn.warehouse_schema)
    )


class LoadCheckedFileOperator(LoadFileOperator):
    """Astro SDK's load_file, which replaces table ``stg_<name>`` once the file has been found to be right.

    The source is read once: what the SDK loads are the very bytes that were checked. Their SHA-256 is the XCom ``sha256``.

    Args:
        name: of the table, such as ``orders``.
        source: the CSV, relative to include/ or as ``s3://bucket/key``; templated.
        only_for_training: whether a run with the param ``score_only`` does without it, and skips the task.

    """

    template_fields = (*LoadFileOperator.template_fields, "source")

    def __init__(self, *, name: str, source: str, only_for_training: bool = False, **kwargs: Any) -> None:
        super().__init__(
            input_file=File(f"{name}.csv"),  # known when the task runs
            output_table=warehouse_table(f"{STAGING_PREFIX}{name}"),
            if_exists="replace",
            # datasets link DAGs here; those that the SDK would add have templates in their names
            inlets=[],
            outlets=[],
            **kwargs,
        )
        self.name = name
        self.source = source
        self.only_for_training = only_for_training

    @fail_at_once
    def execute(self, context: Context) -> Any:
        """Check the file, say what came in, and load it."""
        if self.only_for_training and context["params"].get("score_only"):
            raise AirflowSkipException(f"score_only: {self.name} makes the label, which scoring does without")

        postgres_server()  # of a connection of another kind the SDK only says KeyError
        from include.churn.schema import check_csv, load_dtypes
        from include.sources import read_source

        content, name = read_source(self.source)
        rows = check_csv(content, self.name)
        digest = sha256_hex(content)
        self.log.info("%s: %d rows, SHA-256 %s, as it should be", name, rows, digest)
        with TemporaryDirectory() as place:
            checked = Path(place, f"{self.name}.csv")
            checked.write_bytes(content)
            del content  # of ten million payments: while pandas has its rows, half a gigabyte less in memory
            self.input_file = File(str(checked))
            # types as the data dictionary has them; the SDK would guess them from the first thousand rows
            self.input_file.load_options = [PandasLoadOptions(dtype=load_dtypes(self.name))]
            # not super().execute: Airflow 2.11 warns of one execute in another
            table = self.load_data(self.input_file, context)
        context["ti"].xcom_push(DIGEST, digest)
        return table
