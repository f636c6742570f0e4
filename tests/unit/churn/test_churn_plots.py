import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from include.churn import plots
from include.churn.model import measure_learning_curve, split, train


def draw_all(features):
    training, holdout = split(features)
    model = train(training, {"n_estimators": 5}, seed=1)
    return {
        "proportions": plots.plot_class_proportions(training, holdout),
        "curve": plots.plot_learning_curve(
            measure_learning_curve(training, {"n_estimators": 5}, seed=1), len(training)
        ),
        "roc": plots.plot_roc(model, holdout, "held-out"),
        "precision": plots.plot_precision_recall(model, holdout, "held-out"),
        "confusion": plots.plot_confusion_matrix(model, holdout, "held-out"),
        "importances": plots.plot_feature_importances(model, training),
    }


@pytest.fixture
def figures(features):
    return draw_all(features)


def words(figure):
    axes = figure.axes[0]
    labels = [label.get_text() for label in [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts]]
    return " ".join([axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *labels])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("proportions", ["all 60", "training rows\n(n = 38)", "held-out rows\n(n = 22)", "12 (32%)", "8 (36%)"]),
        ("curve", ["Learning curve", "the 38 training rows", "n = 31", "ROC AUC"]),
        ("roc", ["ROC, held-out rows (n = 22)"]),
        ("precision", ["Precision and recall, held-out rows (n = 22)"]),
        ("confusion", ["Confusion matrix, held-out rows (n = 22)", "not churned"]),
        ("importances", ["Feature importances, training rows (n = 38)", "customer\nlifetime\nvalue"]),
    ],
)
def test_plot_tells_what_it_shows_of_which_rows(figures, name, expected):
    for part in expected:
        assert part in words(figures[name])


def test_confusion_matrix_has_the_truth_in_its_rows(features):
    model = train(features, {"n_estimators": 5}, seed=1)
    figure = plots.plot_confusion_matrix(model, features.assign(churned=1), "made-up")

    counts = [int(text.get_text()) for text in figure.axes[0].texts]

    assert counts[:2] == [0, 0]
    assert sum(counts[2:]) == 60


def test_learning_curve_shows_what_is_below_chance(features):
    points = measure_learning_curve(features, {"n_estimators": 2}, seed=1).assign(validation_roc_auc=0.1)

    assert plots.plot_learning_curve(points, 60).axes[0].get_ylim()[0] <= 0.1


def test_learning_curve_says_from_how_many_its_rows_were_drawn(features):
    points = measure_learning_curve(features, {"n_estimators": 2}, seed=1)

    title = plots.plot_learning_curve(points, 700_000).axes[0].get_title()

    assert "20,000 training rows,\ndrawn from 700,000" in title


def test_same_rows_give_the_same_png(figures, features):
    again = draw_all(features)
    for name, figure in figures.items():
        png = plots.figure_to_png(figure)
        assert png.startswith(b"\x89PNG")
        assert np.frombuffer(png[16:24], ">u4").tolist() == [1120, 840]
        assert plots.figure_to_png(again[name]) == png


def test_churn_modules_import_neither_airflow_nor_wandb():
    code = (
        "import sys; import include.churn.plots, include.churn.model_card, include.churn.generate;"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'airflow', 'astro', 'wandb', 'mlflow'}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
