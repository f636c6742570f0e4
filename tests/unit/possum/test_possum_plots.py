import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from include.errors import ConfigurationError, InputError
from include.possum.plots import figure_to_png, plot_predictions
from include.settings import INCLUDE

PICTURE = INCLUDE / "opossum.png"


@pytest.fixture
def predictions():
    lengths = np.random.default_rng(0).normal(37, 2, size=(101, 2))
    frame = pd.DataFrame(lengths, columns=["true_taill", "predicted_taill"])
    return frame.assign(case=range(1, 102), used_for_training=frame.index % 5 != 0)


def get_legend(figure):
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return legend


def get_markers(figure):
    """Label without its count, to the plotted points."""
    lines = figure.axes[0].get_lines()
    return {line.get_label().split(" (")[0]: line.get_xydata() for line in lines}


def test_plot_labels_the_axes_the_right_way_round(predictions):
    figure = plot_predictions(predictions, PICTURE, subtitle="version 3")
    axes, corner = figure.axes

    assert axes.get_ylabel() == "tail length [cm]"
    assert axes.get_xlabel() == "animals, in order of true tail length"
    assert [text.get_text() for text in figure.texts] == ["Possum tails: predicted and true length", "version 3"]
    assert corner.images


def test_plot_tells_groups_apart_in_the_legend(predictions):
    figure = plot_predictions(predictions, None, subtitle="")

    labels = [text.get_text() for text in get_legend(figure).get_texts()]
    assert labels == ["true length", "predicted, trained on (80 animals)", "predicted, not trained on (21 animals)"]


def test_plot_puts_true_and_predicted_of_an_animal_at_the_same_place(predictions):
    points = get_markers(plot_predictions(predictions, None, subtitle=""))
    ordered = predictions.sort_values("true_taill")

    assert points["true length"][:, 1].tolist() == ordered["true_taill"].tolist()
    drawn = np.concatenate([points["predicted, trained on"], points["predicted, not trained on"]])
    assert drawn[drawn[:, 0].argsort(), 1].tolist() == ordered["predicted_taill"].tolist()
    unseen = ordered.loc[~ordered["used_for_training"], "predicted_taill"]
    assert points["predicted, not trained on"][:, 1].tolist() == unseen.tolist()


@pytest.mark.parametrize(("known", "label"), [(True, "trained on"), (False, "not trained on")])
def test_plot_shows_no_group_that_is_empty(predictions, known, label):
    points = get_markers(plot_predictions(predictions.assign(used_for_training=known), None, subtitle=""))

    assert set(points) == {"true length", f"predicted, {label}"}


def test_plot_puts_animals_without_true_length_last(predictions):
    predictions.loc[:9, "true_taill"] = float("nan")

    points = get_markers(plot_predictions(predictions.assign(used_for_training=False), None, subtitle=""))

    assert len(points["true length"]) == 91
    assert points["predicted, not trained on"][-10:, 1].tolist() == sorted(predictions["predicted_taill"].head(10))


def test_plot_does_without_any_true_length(predictions):
    figure = plot_predictions(predictions.assign(true_taill=float("nan")), None, subtitle="")

    assert "true length" not in get_markers(figure)
    assert figure.axes[0].get_xlabel() == "animals, in order of predicted tail length"


@pytest.mark.parametrize("count", [1, 40])
def test_plot_names_few_animals_by_case(predictions, count):
    few = predictions.head(count)

    axes = plot_predictions(few, None, subtitle="").axes[0]

    expected = few.sort_values("true_taill")["case"].astype(str).tolist()
    assert [label.get_text() for label in axes.get_xticklabels()] == expected
    assert "case number" in axes.get_xlabel()


def test_plot_keeps_picture_legend_and_text_off_the_data(predictions):
    figure = plot_predictions(
        predictions, PICTURE, subtitle="version 3, held-out RMSE 1.52 cm, cross-validated 1.26 cm"
    )
    figure.canvas.draw()
    axes, corner = figure.axes

    boxes = [corner.get_window_extent(), get_legend(figure).get_window_extent()]
    boxes += [text.get_window_extent() for text in figure.texts]
    for number, box in enumerate(boxes):
        assert not box.overlaps(axes.get_window_extent())
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.drop(columns=["case", "true_taill"]), r"\['case', 'true_taill'\]"),
        (lambda rows: rows.drop(columns="used_for_training"), r"\['used_for_training'\]"),
        (lambda rows: rows.head(0), "no predictions"),
        (lambda rows: rows.assign(predicted_taill=rows["predicted_taill"].where(rows["case"] != 7)), "first case 7"),
    ],
    ids=["missing column", "not known what was trained on", "no rows", "missing prediction"],
)
def test_plot_refuses_predictions_that_it_cannot_draw(predictions, spoil, message):
    with pytest.raises(InputError, match=message):
        plot_predictions(spoil(predictions), None, subtitle="")


@pytest.mark.parametrize(
    "content", [None, b"no picture", PICTURE.read_bytes()[:500]], ids=["absent", "text", "cut off"]
)
def test_plot_names_a_picture_that_it_cannot_read(predictions, tmp_path, content):
    picture = tmp_path / "picture.png"
    if content is not None:
        picture.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"picture\.png.*POSSUM_PICTURE_PATH"):
        plot_predictions(predictions, picture, subtitle="")


def test_figure_to_png_gives_1200_by_675_pixels_and_the_same_bytes_again(predictions):
    first, second = (figure_to_png(plot_predictions(predictions, PICTURE, subtitle="x")) for _ in range(2))

    assert imread(io.BytesIO(first)).shape == (675, 1200, 4)
    assert first == second
