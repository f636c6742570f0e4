"""Whether a batch of rows looks like the rows that a model was trained on.

Each numeric column is compared by the two-sample Kolmogorov-Smirnov test, each categorical one by the chi-squared test of
homogeneity, both SciPy's. The smallest p-value, times the number of columns (Bonferroni), is the batch's: a batch of the
same distribution falls below the significance at most that often.
"""

import base64
import html
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from include.errors import InputError

REFERENCE_ROWS = 10_000  # as many training rows are kept as reference; more would not change what a test can see
COLOURS = {"training rows": "#4c78a8", "this batch": "#e4572e"}


@dataclass(frozen=True)
class DriftReport:
    """The comparison of a batch with the reference."""

    columns: pd.DataFrame
    """A row for each column: ``column``, ``test``, ``statistic`` (0 to 1), ``p_value``."""
    p_value: float
    """Of the whole batch, corrected for the number of columns."""
    significance: float

    @property
    def drifted(self) -> bool:
        """Whether the batch differs from the reference by more than chance explains."""
        return self.p_value < self.significance

    @property
    def sentence(self) -> str:
        """The finding, for a log."""
        worst = self.columns.sort_values("p_value").iloc[0]
        found = "differs from the training rows" if self.drifted else "looks like the training rows"
        return (
            f"The batch {found}: p = {self.p_value:.3g} over {len(self.columns)} columns (drift below "
            f"{self.significance:g}); the least likely column is {worst['column']}"
        )

    def metrics(self) -> dict[str, float]:
        """The figures for a tracking server."""
        by_column = self.columns.set_index("column")
        return {f"drift_p_{column}": float(p) for column, p in by_column["p_value"].items()} | {
            "drift_p_value": self.p_value,
            "drift_detected": float(self.drifted),
        }


def reference_rows(training: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """What to keep of the training rows: all of them, or a random REFERENCE_ROWS."""
    return training if len(training) <= REFERENCE_ROWS else training.sample(REFERENCE_ROWS, random_state=seed)


def compare(
    reference: pd.DataFrame, batch: pd.DataFrame, *, categorical: list[str], numeric: list[str], significance: float
) -> DriftReport:
    """Compare the distributions of a batch's columns with those of the reference.

    Args:
        reference: training rows, shape (n, at least those columns).
        batch: rows to be scored, shape (m, at least those columns).
        categorical: columns whose values are names.
        numeric: columns whose values are amounts.
        significance: the share of batches of the same distribution that may be called drifted.

    Raises:
        InputError: if there is nothing to compare (no columns, a column or all rows missing), or if a value is missing or
            is not a finite number: a test that skips it would say "no drift".

    """
    if not categorical and not numeric:
        raise InputError("There are no columns for the drift check")
    for name, table in (("reference", reference), ("batch", batch)):
        if absent := [column for column in (*categorical, *numeric) if column not in table]:
            raise InputError(f"The {name} for the drift check lacks the columns {absent}")
        if table.empty:
            raise InputError(f"The {name} for the drift check has no rows")
        unusable = {column: int(table[column].isna().sum()) for column in categorical}
        unusable |= {column: int((~np.isfinite(table[column].astype(float))).sum()) for column in numeric}
        if unusable := {column: count for column, count in unusable.items() if count}:
            raise InputError(f"The {name} for the drift check has values that are missing or not finite: {unusable}")
    rows = [_compare_categories(column, reference[column], batch[column]) for column in categorical]
    rows += [_compare_numbers(column, reference[column], batch[column]) for column in numeric]
    columns = pd.DataFrame(rows, columns=["column", "test", "statistic", "p_value"])
    return DriftReport(columns, float(min(1.0, columns["p_value"].min() * len(columns))), significance)


def _compare_numbers(column: str, reference: pd.Series, batch: pd.Series) -> tuple[str, str, float, float]:
    outcome = stats.ks_2samp(reference, batch)
    return column, "Kolmogorov-Smirnov", float(outcome.statistic), float(outcome.pvalue)


def _compare_categories(column: str, reference: pd.Series, batch: pd.Series) -> tuple[str, str, float, float]:
    counts = pd.concat([reference.value_counts(), batch.value_counts()], axis=1).fillna(0).to_numpy()
    if len(counts) < 2:  # one and the same value everywhere
        return column, "chi-squared", 0.0, 1.0
    outcome = stats.chi2_contingency(counts, correction=False)
    return column, "chi-squared", float(np.sqrt(outcome.statistic / counts.sum())), float(outcome.pvalue)


def plot_distributions(reference: pd.DataFrame, batch: pd.DataFrame, report: DriftReport) -> Figure:
    """A small plot for each column: how its values are distributed in the reference and in the batch."""
    across = 4
    down = -(-len(report.columns) // across)
    figure = Figure(figsize=(12, 2.6 * down), dpi=100, layout="constrained")
    for place, (_, row) in enumerate(report.columns.iterrows(), start=1):
        axes = figure.add_subplot(down, across, place)
        column = row["column"]
        tables = dict(zip(COLOURS, (reference[column], batch[column]), strict=True))
        if row["test"] == "chi-squared":
            shares = pd.DataFrame({name: values.value_counts(normalize=True) for name, values in tables.items()})
            shares.fillna(0).sort_index().plot.bar(ax=axes, color=list(COLOURS.values()), legend=False, rot=0)
        else:
            edges = np.histogram_bin_edges(pd.concat(tables.values()), bins=12)
            for name, values in tables.items():
                weights = np.full(len(values), 1 / len(values))
                axes.hist(values, bins=edges.tolist(), weights=weights, color=COLOURS[name], alpha=0.55, label=name)
        axes.set_title(f"{column}: p = {row['p_value']:.2g}", fontsize=10)
        axes.set_xlabel("")
        axes.set_ylabel("share of rows" if place % across == 1 else "")
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def render_report(reference: pd.DataFrame, batch: pd.DataFrame, report: DriftReport, title: str) -> str:
    """One self-contained HTML page: the finding, the figures of each column, the plots."""
    picture = io.BytesIO()
    plot_distributions(reference, batch, report).savefig(picture, format="png", metadata={"Software": None})
    table = report.columns.sort_values("p_value").to_html(index=False, float_format="{:.3g}".format, border=0)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>body {{font-family: sans-serif; max-width: 75rem; margin: 2rem auto}} td, th {{padding: .2rem 1rem; text-align: left}}
img {{max-width: 100%}}</style></head>
<body><h1>{html.escape(title)}</h1>
<p><strong>{html.escape(report.sentence)}.</strong></p>
<p>{len(reference)} training rows, {len(batch)} rows in the batch. A small p-value says that such a difference is rare between
samples of the same distribution; the batch's is the smallest of all columns times their number.</p>
{table}
<p><img alt="distributions" src="data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"></p>
</body></html>
"""
