import numpy as np
import pytest
from matplotlib.image import imread

from include.draw_opossum import PICTURE, draw_opossum, write_opossum


def test_write_opossum_gives_the_shipped_pixels_again(tmp_path):
    write_opossum(tmp_path / "again.png")

    np.testing.assert_array_equal(imread(tmp_path / "again.png"), imread(PICTURE))


def test_write_opossum_gives_the_same_bytes_each_time(tmp_path):
    for name in ("one.png", "two.png"):
        write_opossum(tmp_path / name)

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_write_opossum_fails_where_it_cannot_write(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_opossum(tmp_path / "nowhere" / "opossum.png")


def test_picture_is_a_possum_on_a_transparent_square():
    pixels = imread(PICTURE)

    assert pixels.shape == (400, 400, 4)
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3]
    assert not corners.any()
    assert 0.3 < (pixels[..., 3] == 1).mean() < 0.7


def test_draw_opossum_stays_inside_the_square():
    figure = draw_opossum()

    extents = [patch.get_window_extent() for patch in figure.axes[0].patches]
    assert len(extents) > 10
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in extents)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in extents)
