"""The figures of the exact experiments show the numbers they are given, at the places they belong to."""

import numpy as np
import pytest

from reschrom import Chromatogram, Schedule
from reschrom.companion import figures
from reschrom.plots._figure import INK

SIDE = 8
EDGES = np.linspace(0, 1, 9)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (4, 3, SIDE, SIDE))


def lines(figure):
    return {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}


def test_image_sets_show_three_pictures_and_the_spectrum_of_each_set(images):
    spectrum = np.array([0.1, 1.0, 10.0, 50.0])
    figure = figures.image_sets({"a": images, "b": -images}, {"a": spectrum, "b": 2 * spectrum}, "title")
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes if axes.get_images()]
    assert len(shown) == 6
    np.testing.assert_allclose(shown[4], np.moveaxis(-images[1], 0, -1) / 2 + 0.5)
    np.testing.assert_array_equal(lines(figure)["b"].get_ydata(), 2 * spectrum[::-1])  # coarse at the left
    assert figure.raster


def test_centroid_panels_put_one_pixel_at_the_bottom_and_noise_at_the_left():
    panels = {"set": {"seen": ("measured", np.array([0.1, 0.4, 0.9])), "said": ("paper", np.array([0.5, 0.6, 0.7]))}}
    panels["other"] = {"seen": ("measured", np.array([0.2, 0.3, 0.4])), "said": ("theory", np.array([0.1, 0.2, 0.3]))}
    figure = figures.centroid_panels(panels, 4, "title")
    first = figure.axes[0]
    assert first.get_xlim() == (1, 0)
    assert [label.get_text() for label in first.get_yticklabels()] == ["1x1", "2x2", "4x4"]
    np.testing.assert_array_equal(first.get_lines()[0].get_xdata(), [0.9, 0.4, 0.1])
    theories = [axes.get_lines()[1] for axes in figure.axes]
    assert theories[0].get_color() == INK["paper"]
    assert theories[1].get_color() == INK["gaussian"]


def test_memorisation_draws_every_band_of_each_loss():
    losses = [np.linspace(0, k, 9) * np.ones((4, 1)) for k in (1, 2, 3)]
    figure = figures.memorisation(EDGES, *losses, SIDE, "title")
    for axes, loss in zip(figure.axes, losses, strict=True):
        np.testing.assert_array_equal([line.get_ydata() for line in axes.get_lines()[:4]], loss)


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_every_picture_of_a_strip_stands_over_its_own_time(images, start):
    edges = np.linspace(start, 1, 9)
    chromatogram = Chromatogram.predicted(Schedule.cosine(), SIDE, edges=edges)
    times = start + (1 - start) * np.array([0.875, 0.625, 0.375, 0.125])
    figure = figures.strip({"a": list(images), "b": list(-images)}, chromatogram, "title")
    heat = figure.axes[8]
    left, width = heat.get_position().x0, heat.get_position().width
    for index, axes in enumerate(figure.axes[:8]):
        box = axes.get_position()
        expected = left + width * (1 - times[index % 4]) / (1 - start)
        assert (box.x0 + box.x1) / 2 == pytest.approx(expected, abs=0.01)
    assert ("image" in heat.get_xlabel()) == (start == 0)
