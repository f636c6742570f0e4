"""From CSV to warehouse table: checked while it is read, and loaded with COPY once all of it is right."""

import include.legacy_packages

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException
from astro.databases import CONN_TYPE_TO_MODULE_PATH, create_database
from astro.files import File
from astro.sql.operators.load_file import LoadFileOperator
from astro.table import Metadata, Table

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

    The source is read once, in little memory: what is loaded are the very rows that were checked, with the columns and
    types of the data dictionary. Their file's SHA-256 is the XCom ``sha256``.

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
        from pyarrow.csv import CSVWriter, WriteOptions  # type: ignore[import-untyped]

        from include.churn.schema import TABLES, check_csv
        from include.sources import open_source

        with TemporaryDirectory() as place:
            self.input_file = File(str(Path(place, f"{self.name}.csv")))
            options = WriteOptions(include_header=False)
            with (
                open_source(self.source) as (source, name),
                CSVWriter(self.input_file.path, TABLES[self.name].arrow_schema, write_options=options) as checked,
            ):
                found = check_csv(source, self.name, name=name, keep=checked.write)
            self.log.info("%s: %d rows checked, SHA-256 %s", name, found.rows, found.sha256)
            # not super().execute: Airflow warns of one execute in another
            table = self.load_data(self.input_file, context)
        context["ti"].xcom_push(DIGEST, found.sha256)
        return table

    def load_data_to_table(self, input_file: File, context: Context) -> Table:  # noqa: ARG002
        """Replace the table by the checked rows.

        The SDK would take the types from the first thousand rows, and the rows through pandas: all at once, words such as
        NA as missing, line ends changed, and in the encoding of the machine's locale.
        """
        from include.churn.schema import TABLES
        from include.churn.staging import replace_table, sql_columns

        database = create_database(self.output_table.conn_id, self.output_table)
        database.create_schema_if_applicable(self.output_table.metadata.schema, self.assume_schema_exists)
        self.output_table.columns = sql_columns(TABLES[self.name])
        with Path(input_file.path).open("rb") as rows:
            replace_table(self.output_table, self.output_table.columns, rows)
        return self.output_table
