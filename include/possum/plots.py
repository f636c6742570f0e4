"""The picture that the pipeline ends with: predicted and true tail length of each animal."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from include.errors import ConfigurationError, InputError
from include.settings import settings

WIDTH_PIXELS, HEIGHT_PIXELS, DOTS_PER_INCH = 1200, 675, 100
KEY = settings.possum.key_column
TRUE, PREDICTED = f"true_{settings.possum.target_column}", f"predicted_{settings.possum.target_column}"

# Up to this many animals each has its case number below it; more would not be legible.
LABELLED_ANIMALS = 40

# Told apart by shape and by brightness as well as by colour.
TRUE_COLOR, TRAINING_COLOR, UNSEEN_COLOR = "#2b2523", "#3b7fb6", "#d9541e"


def plot_predictions(predictions: pd.DataFrame, picture: Path | None, *, subtitle: str) -> Figure:
    """Draw predicted and true tail length of each animal.

    The animals stand in order of their true length: the true values make one rising line, and every error is the
    distance of a marker from it. By case number both would zigzag over each other. Animals without a true length come
    last, in order of the predicted one.

    Args:
        predictions: shape (n, 4): key, true and predicted length in cm (the true one may be NaN), and used_for_training
            (bool), by which the animals that the model knows are drawn apart from the others.
        picture: drawn at the top right, above the axes where it covers nothing; None for no picture.
        subtitle: a line below the title, such as the model's version and its error.

    Returns:
        A figure of 1200 x 675 pixels, apart from pyplot and its global state.

    Raises:
        InputError: if a column is missing, there are no animals, or a prediction is missing.
        ConfigurationError: if the picture cannot be read.

    """
    _check_predictions(predictions)
    size = (WIDTH_PIXELS / DOTS_PER_INCH, HEIGHT_PIXELS / DOTS_PER_INCH)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.065, 0.105, 0.91, 0.67))
    rows = predictions.sort_values([TRUE, PREDICTED], ignore_index=True)
    _draw_lengths(axes, rows)
    _label_axes(axes, rows)
    figure.text(0.065, 0.935, "Possum tails: predicted and true length", fontsize=19, weight="bold")
    figure.text(0.065, 0.888, subtitle, fontsize=12, color="#555555")
    # between the subtitle and the axes: inside them there is no place that is free for any data
    axes.legend(loc="lower left", bbox_to_anchor=(-0.008, 1.0), ncols=4, frameon=False, fontsize=11.5)
    if picture is not None:
        _draw_picture(figure, picture)
    return figure


def figure_to_png(figure: Figure) -> bytes:
    """Render a figure as PNG, the same bytes each time it is drawn with the same matplotlib."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _check_predictions(predictions: pd.DataFrame) -> None:
    absent = [column for column in (KEY, TRUE, PREDICTED, "used_for_training") if column not in predictions]
    if absent:
        raise InputError(f"The predictions lack the columns {absent}; they have {list(predictions)}.")
    if predictions.empty:
        raise InputError("There are no predictions to plot.")
    missing = predictions.loc[predictions[PREDICTED].isna(), KEY].tolist()
    if missing:
        raise InputError(f"Column {PREDICTED!r} is missing for {len(missing)} animals, the first {KEY} {missing[0]}.")


def _draw_lengths(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the true lengths as a line, the predicted ones as markers, and between them each animal's error."""
    true, predicted = rows[TRUE].to_numpy(dtype=float), rows[PREDICTED].to_numpy(dtype=float)
    places = np.arange(1, len(rows) + 1)
    known = ~np.isnan(true)
    if known.any():
        axes.vlines(places[known], true[known], predicted[known], color="#c9c4bf", linewidth=1.2, zorder=1)
        axes.plot(places[known], true[known], color=TRUE_COLOR, marker=".", markersize=6, label="true length", zorder=2)
    for chosen, label, color, marker in _group_animals(rows):
        if chosen.any():
            label_with_count = f"{label} ({int(chosen.sum())} animals)"
            axes.plot(
                places[chosen],
                predicted[chosen],
                linestyle="none",
                marker=marker,
                markersize=7,
                markeredgecolor="white",
                markeredgewidth=0.6,
                color=color,
                label=label_with_count,
                zorder=3,
            )


def _group_animals(rows: pd.DataFrame) -> list[tuple[np.ndarray, str, str, str]]:
    """Name each group of animals that gets a marker of its own: which rows, label, colour, marker."""
    known = rows["used_for_training"].to_numpy(dtype=bool)
    return [
        (known, "predicted, trained on", TRAINING_COLOR, "o"),
        (~known, "predicted, not trained on", UNSEEN_COLOR, "D"),
    ]


def _label_axes(axes: Axes, rows: pd.DataFrame) -> None:
    order = "predicted" if rows[TRUE].isna().all() else "true"
    if len(rows) <= LABELLED_ANIMALS:
        axes.set_xticks(np.arange(1, len(rows) + 1), labels=[str(case) for case in rows[KEY]])
        axes.set_xlabel(f"animal (case number), in order of {order} tail length", fontsize=12.5)
    else:
        axes.set_xlabel(f"animals, in order of {order} tail length", fontsize=12.5)
    axes.set_ylabel("tail length [cm]", fontsize=12.5)
    axes.set_xlim(0, len(rows) + 1)
    axes.tick_params(labelsize=11)
    axes.grid(axis="y", color="#e8e5e2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_picture(figure: Figure, picture: Path) -> None:
    try:
        pixels = imread(picture)
    except (OSError, SyntaxError) as error:  # SyntaxError is how a broken PNG shows
        raise ConfigurationError(f"The picture {picture} cannot be read: {error}. Set POSSUM_PICTURE_PATH.") from error
    corner = figure.add_axes((0.865, 0.785, 0.12, 0.205))
    corner.imshow(pixels, interpolation="lanczos")
    corner.set_axis_off()
