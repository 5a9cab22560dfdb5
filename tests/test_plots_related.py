"""The figures of the related methods show the numbers they are given."""

import numpy as np

from reschrom import plots

TIMES = np.linspace(0.01, 0.99, 9)


def maps():
    return plots.time_maps(TIMES, {"one": {"a": TIMES, "b": TIMES**2, "c": 1.0 * TIMES}, "two": {"d": TIMES}}, "Maps")


def test_equal_maps_are_one_line_with_all_their_names():
    one, two = maps().axes
    assert one.get_xlim() == (1, 0), "noise is at the left"
    np.testing.assert_allclose([line.get_ydata() for line in one.lines], [TIMES, TIMES**2])
    assert [text.get_text() for text in one.texts] == ["a", "c", "b"]
    first, second, other = (text.get_color() for text in one.texts)
    assert first == second == one.lines[0].get_color() != other
    assert len(two.lines) == 1


def test_figures_are_the_same_bytes_every_time():
    assert maps()._repr_mimebundle_() == maps()._repr_mimebundle_()
