"""The plots of a training run, as matplotlib figures without a window; each title tells which rows and how many."""

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from include.churn.model import FEATURE_COLUMNS, LEARNING_CURVE_ROWS, TARGET, predict_probability

LABELS = ["not churned", "churned"]
COLORS = ["#4c78a8", "#e45756"]


def plot_class_proportions(training_rows: pd.DataFrame, holdout_rows: pd.DataFrame) -> Figure:
    """Plot how many customers of each class there are in the training and in the held-out rows."""
    n = len(training_rows) + len(holdout_rows)
    figure, axes = _make_figure(f"Churned customers among all {n:,}, training and held-out rows")
    parts = {f"training rows\n(n = {len(training_rows):,})": training_rows[TARGET]}
    parts |= {f"held-out rows\n(n = {len(holdout_rows):,})": holdout_rows[TARGET]}
    for label, (name, color) in enumerate(zip(LABELS, COLORS, strict=True)):
        counts = [int((part == label).sum()) for part in parts.values()]
        places = np.arange(len(parts)) + (label - 0.5) * 0.36
        bars = axes.bar(places, counts, 0.34, label=name, color=color)
        shares = [f"{count:,} ({count / len(part):.0%})" for count, part in zip(counts, parts.values(), strict=True)]
        axes.bar_label(bars, shares, padding=2)
    axes.set_xticks(range(len(parts)), list(parts))
    axes.set_ylabel("customers")
    axes.margins(y=0.15)
    axes.legend()
    return figure


def plot_learning_curve(points: pd.DataFrame, training_rows: int) -> Figure:
    """Plot mean and standard deviation over the folds of what measure_learning_curve returns for so many rows."""
    folds = points["fold"].nunique()
    rows = f"the {training_rows:,} training rows"
    if training_rows > LEARNING_CURVE_ROWS:
        rows = f"{LEARNING_CURVE_ROWS:,} training rows,\ndrawn from {training_rows:,}"
    figure, axes = _make_figure(f"Learning curve, {folds}-fold cross-validation of {rows}")
    grouped = points.dropna().groupby("share")
    sizes = grouped["rows"].mean()
    curves = ["training_roc_auc", "validation_roc_auc"]
    names = ["on the rows trained on", "on the rows of the fold left out"]
    for column, name, color in zip(curves, names, ["#7f7f7f", COLORS[0]], strict=True):
        mean, spread = grouped[column].mean(), grouped[column].std(ddof=0)
        axes.plot(sizes, mean, marker="o", color=color, label=name)
        axes.fill_between(sizes, mean - spread, mean + spread, color=color, alpha=0.2)
    axes.axhline(0.5, linestyle="--", color="black", linewidth=1, label="chance")
    axes.set(
        xlabel=f"rows trained on (at most n = {points['rows'].max():,})",
        ylabel="ROC AUC, mean ± standard deviation",
        ylim=(min(0.4, points[curves].min().min()), 1.02),
    )
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(loc="lower right")
    return figure


def plot_roc(model: RandomForestClassifier, rows: pd.DataFrame, rows_name: str) -> Figure:
    """Plot the ROC curve of the rows; ``rows_name`` tells in the title which these are, such as "held-out"."""
    figure, axes = _make_figure(f"ROC, {rows_name} rows (n = {len(rows):,})")
    probability = predict_probability(model, rows)
    RocCurveDisplay.from_predictions(rows[TARGET], probability, ax=axes, plot_chance_level=True, name="model")
    axes.set(xlabel="share of those who stayed, called churned", ylabel="share of the churned, found")
    return figure


def plot_precision_recall(model: RandomForestClassifier, rows: pd.DataFrame, rows_name: str) -> Figure:
    """Plot precision against recall for the rows; see plot_roc."""
    figure, axes = _make_figure(f"Precision and recall, {rows_name} rows (n = {len(rows):,})")
    probability = predict_probability(model, rows)
    PrecisionRecallDisplay.from_predictions(rows[TARGET], probability, ax=axes, plot_chance_level=True, name="model")
    axes.set(xlabel="recall: share of the churned, found", ylabel="precision: share right of those called churned")
    axes.legend(loc="lower left")
    return figure


def plot_confusion_matrix(model: RandomForestClassifier, rows: pd.DataFrame, rows_name: str) -> Figure:
    """Plot how often the rows are called what they are, at a probability of 0.5; see plot_roc."""
    figure, axes = _make_figure(f"Confusion matrix, {rows_name} rows (n = {len(rows):,})")
    predicted = (predict_probability(model, rows) > 0.5).astype(int)
    ConfusionMatrixDisplay.from_predictions(
        rows[TARGET], predicted, labels=[0, 1], display_labels=LABELS, ax=axes, cmap="Blues", values_format=",d"
    )
    axes.set(xlabel="called (probability of churn above 0.5: churned)", ylabel="really")
    return figure


def plot_feature_importances(model: RandomForestClassifier, training_rows: pd.DataFrame) -> Figure:
    """Plot the mean decrease in impurity of each feature, with its standard deviation over the trees."""
    figure, axes = _make_figure(f"Feature importances, training rows (n = {len(training_rows):,})")
    by_tree = np.array([tree.feature_importances_ for tree in model.estimators_])
    order = np.argsort(model.feature_importances_)
    names = [FEATURE_COLUMNS[place].replace("_", "\n") for place in order]
    axes.barh(names, model.feature_importances_[order], xerr=by_tree.std(axis=0)[order], color=COLORS[0], capsize=4)
    axes.set(xlabel=f"mean decrease in impurity, ± standard deviation over {len(by_tree)} trees", xlim=(0, None))
    return figure


def figure_to_png(figure: Figure) -> bytes:
    """Draw the figure as a PNG of 1120 x 840 pixels."""
    buffer = io.BytesIO()
    # without the date and version that matplotlib writes, equal figures are equal bytes
    figure.savefig(buffer, format="png", dpi=140, metadata={"Software": None})
    return buffer.getvalue()


def _make_figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes
