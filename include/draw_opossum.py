"""Draws the possum that sits on the plot: ``python -m include.draw_opossum`` writes include/opossum.png again."""

import math
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyBboxPatch, Patch, PathPatch
from matplotlib.path import Path as Outline

PICTURE = Path(__file__).parent / "opossum.png"
SIZE_PIXELS = 400
DOTS_PER_INCH = 100

FUR = "#8d8680"
DARK_FUR = "#6b645f"
PALE_FUR = "#f3ece3"
TAIL = "#4f4945"
PINK = "#f2a9b0"
NOSE = "#e0798a"
INK = "#2b2523"
WHITE = "#ffffff"


def draw_opossum() -> Figure:
    """Draw the possum on a transparent square of 400 x 400 pixels; a unit is a pixel, the origin the bottom left."""
    figure = Figure(figsize=(SIZE_PIXELS / DOTS_PER_INCH,) * 2, dpi=DOTS_PER_INCH, facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, SIZE_PIXELS), ylim=(0, SIZE_PIXELS), aspect="equal")
    axes.set_axis_off()
    # later ones cover earlier ones
    for level, patch in enumerate([*_make_tail(), *_make_body(), *_make_head(), *_make_face()]):
        patch.set_zorder(level)
        axes.add_patch(patch)
    return figure


def write_opossum(path: Path = PICTURE) -> None:
    """Write the picture as PNG, byte for byte the same each time."""
    figure = draw_opossum()
    FigureCanvasAgg(figure)
    # matplotlib would note its version in the file
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH, transparent=True, metadata={"Software": None})


def _make_ellipse(center: tuple[float, float], size: tuple[float, float], color: str, degrees: float = 0) -> Ellipse:
    return Ellipse(center, *size, angle=degrees, facecolor=color, edgecolor="none")


def _make_stroke(points: list[tuple[float, float]], color: str, width: float) -> PathPatch:
    """Make a quadratic curve with round ends: its start, its control point, its end."""
    codes = [Outline.MOVETO, Outline.CURVE3, Outline.CURVE3]
    return PathPatch(Outline(points, codes), facecolor="none", edgecolor=color, linewidth=width, capstyle="round")


def _make_tail() -> list[Patch]:
    """Make the brush: circles along a cubic curve, thick in the middle, towards a pale tip."""
    corners = np.array([(220, 44), (385, 0), (395, 175), (338, 206)])
    patches: list[Patch] = []
    for step in np.linspace(0, 1, 80):
        weights = np.array([(1 - step) ** 3, 3 * step * (1 - step) ** 2, 3 * step**2 * (1 - step), step**3])
        x, y = weights @ corners
        radius = 20 + 12 * math.sin(math.pi * step) - 4 * step
        patches.append(Circle((x, y), radius, facecolor=PALE_FUR if step > 0.88 else TAIL, edgecolor="none"))
    return patches


def _make_body() -> list[Patch]:
    feet = [_make_ellipse((x, 38), (74, 42), DARK_FUR, tilt) for x, tilt in ((140, 12), (238, -12))]
    toes = [_make_ellipse((x, 26), (16, 15), PINK) for x in (117, 135, 153, 225, 243, 261)]
    body = [_make_ellipse((189, 110), (196, 188), FUR), _make_ellipse((189, 98), (126, 138), PALE_FUR)]
    arms = [_make_ellipse((x, 118), (42, 84), DARK_FUR, tilt) for x, tilt in ((140, 34), (238, -34))]
    hands = [_make_ellipse((x, 92), (32, 28), PINK) for x in (168, 210)]
    return [*body, *feet, *toes, *arms, *hands]


def _make_head() -> list[Patch]:
    ears: list[Patch] = []
    for x, tilt in ((96, 24), (282, -24)):
        ears += [_make_ellipse((x, 322), (78, 112), DARK_FUR, tilt), _make_ellipse((x, 318), (48, 78), PINK, tilt)]
    skull = [_make_ellipse((189, 242), (236, 188), FUR), _make_ellipse((189, 292), (26, 76), DARK_FUR)]
    cheeks = [_make_ellipse((x, 218), (112, 104), PALE_FUR) for x in (132, 246)]
    return [*ears, *skull, *cheeks, _make_ellipse((189, 202), (92, 80), PALE_FUR)]


def _make_face() -> list[Patch]:
    face: list[Patch] = []
    for side in (-1, 1):
        x = 189 + side * 53
        face += [
            _make_ellipse((x, 240), (52, 58), INK),
            Circle((x + 8, 252), 10, facecolor=WHITE, edgecolor="none"),
            Circle((x - 10, 228), 5, facecolor=WHITE, edgecolor="none"),
            _make_ellipse((189 + side * 78, 198), (36, 22), PINK),
            _make_stroke([(189, 186), (189 + side * 4, 168), (189 + side * 24, 172)], INK, 2.4),
        ]
        for dy in (-6, 2, 10):
            near, middle, far = 189 + side * 44, 189 + side * 90, 189 + side * 134
            face.append(_make_stroke([(near, 190 + dy), (middle, 190 + 2 * dy), (far, 184 + 4 * dy)], INK, 1.1))
    nose = FancyBboxPatch((178, 198), 22, 9, boxstyle="round,pad=5,rounding_size=9", facecolor=NOSE, edgecolor="none")
    return [*face, nose, _make_ellipse((183, 207), (9, 5), WHITE)]


if __name__ == "__main__":
    write_opossum()
