"""The figures of a model's samples show the numbers they are given, at the places they belong to."""

import numpy as np
import pytest

from reschrom.companion import figures
from reschrom.plots._figure import INK

TIMES = np.array([900.0, 500.0, 100.0])


def test_a_strip_shows_every_picture_under_its_own_time():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 8, 8))
    figure = figures.denoising_strip({"a": list(images), "b": list(-images)}, TIMES, "title")
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes]
    np.testing.assert_allclose(shown[1], np.moveaxis(images[1], 0, -1) / 2 + 0.5)
    np.testing.assert_allclose(shown[5], np.moveaxis(-images[2], 0, -1) / 2 + 0.5)
    assert [axes.get_title(loc="center") for axes in figure.axes[:3]] == ["$t$ = 900", "500", "100"]
    assert figure.raster


def test_a_grid_goes_on_in_a_second_block_as_wide_with_every_picture_under_its_name():
    images = np.random.default_rng(0).uniform(-1, 1, (2, 11, 3, 8, 8))
    names = [f"a pair of {letter}" for letter in "abcdefghijk"]
    figure = figures.sample_grid({"photo": list(images[0]), "oil painting": list(images[1])}, names, "title")
    assert len(figure.axes) == 22
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes]
    for place, (row, column) in {0: (0, 0), 6: (1, 0), 12: (0, 6), 21: (1, 10)}.items():
        np.testing.assert_allclose(shown[place], np.moveaxis(images[row, column], 0, -1) / 2 + 0.5)
    assert [axes.get_title(loc="center") for axes in figure.axes[:6]] == list("abcdef")
    assert figure.axes[12].get_title(loc="center") == "g"
    boxes = [axes.get_position() for axes in figure.axes]
    assert boxes[12].y1 < boxes[6].y0
    assert boxes[12].x0 == boxes[0].x0
    assert min(box.y0 for box in boxes) >= 0


def test_spectra_stand_over_their_frequencies_dark_near_the_image():
    spectra = np.array([[4.0, 2.0, 1.0, 0.5], [3.0, 2.0, 1.0, 0.9], [1.0, 1.0, 1.0, 1.0]])
    figure = figures.change_spectra({"model": spectra, "field": 2 * spectra}, TIMES, "title")
    for axes, values in zip(figure.axes, (spectra, 2 * spectra), strict=False):
        np.testing.assert_array_equal([line.get_ydata() for line in axes.get_lines()], values)
        np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [1, 2, 3, 4])
        brightness = [sum(line.get_color()[:3]) for line in axes.get_lines()]
        assert brightness == sorted(brightness, reverse=True)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[0].get_ylim()[1] > 8


def test_mean_times_run_from_noise_to_image_with_their_intervals():
    times = np.array([900.0, 700.0, 400.0, np.nan])
    lines = {"seen": ("measured", times, np.array([times - 50, times + 50])), "said": ("theory", times - 100, None)}
    figure = figures.mean_times({"one": lines, "two": lines}, 1000.0, "title")
    axes = figure.axes[0]
    assert axes.get_xlim() == (1000, 0)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1  (2x2)", "2  (4x4)", "4  (8x8)"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), times)
    assert axes.get_lines()[1].get_color() == INK["gaussian"]
    (band,) = axes.collections
    ends = band.get_paths()[0].get_extents()
    assert (ends.x0, ends.x1) == pytest.approx((350, 950))
    assert len(figure.legends[0].get_texts()) == 2
