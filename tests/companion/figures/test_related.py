"""The figures of the related methods show the numbers they are given."""

import numpy as np
import pytest

from reschrom import Schedule
from reschrom.companion import figures

TIMES = np.linspace(0.01, 0.99, 9)
GAMMAS = np.geomspace(0.1, 1, 5)
SCHEDULE = Schedule.cosine()


def maps():
    return figures.time_maps(TIMES, {"one": {"a": TIMES, "b": TIMES**2, "c": 1.0 * TIMES}, "two": {"d": TIMES}}, "Maps")


def path():
    noise = np.random.default_rng(0).standard_normal
    images = [noise((3, side, side)) for side in (4, 8)]
    return figures.shrinking_path(np.array([0.75, 0.25]), {"one": images, "two": images}, SCHEDULE, (0.5,), 0.1, "Path")


def bounds():
    return figures.divergences(GAMMAS, {"early": (GAMMAS**2, GAMMAS**4)}, "Bounds")


def test_equal_maps_are_one_line_with_all_their_names():
    one, two = maps().axes
    assert one.get_xlim() == (1, 0), "noise is at the left"
    np.testing.assert_allclose([line.get_ydata() for line in one.lines], [TIMES, TIMES**2])
    assert [text.get_text() for text in one.texts] == ["a", "c", "b"]
    first, second, other = (text.get_color() for text in one.texts)
    assert first == second == one.lines[0].get_color() != other
    assert len(two.lines) == 1


@pytest.mark.lasting
@pytest.mark.parametrize("draw", [maps, path, bounds], ids=lambda draw: draw.__name__)
def test_a_figure_is_the_same_every_time(draw):
    assert draw()._repr_mimebundle_() == draw()._repr_mimebundle_()


def test_bands_fade_to_the_attenuation_at_the_turning_point_that_drops_them():
    axes = path().axes[-1]
    assert axes.get_xlim() == (1, 0)
    lines = [line for line in axes.lines if line.get_label().endswith(("x8", "coarser"))]
    for line, end in zip(lines, (0.1 * np.sqrt(SCHEDULE.alpha(0.5)), 0.0), strict=True):
        np.testing.assert_allclose(line.get_ydata()[[0, -1]], [1, end], atol=1e-12)
    np.testing.assert_allclose(lines[0].get_xdata()[[0, -1]], [0, 0.5])


def test_a_pixel_has_one_size_in_all_pictures():
    pictures = path().axes[:-1]
    widths = np.array([axes.get_position().width for axes in pictures])
    np.testing.assert_allclose(widths / [axes.images[0].get_array().shape[1] for axes in pictures], widths[-1] / 8)


def test_bounds_and_exact_values_stand_on_logarithmic_axes():
    (axes,) = bounds().axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(GAMMAS)]
    np.testing.assert_allclose([line.get_ydata() for line in lines], [GAMMAS**2, GAMMAS**4])
    assert axes.get_xscale() == axes.get_yscale() == "log"
