"""The figures of what the paper leaves open show the numbers they are given."""

import numpy as np

from reschrom import plots


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_shift_rules_show_shift_and_time_of_every_rule():
    sides = np.array([256, 512, 1024])
    shifts = {"sides": sides / 256, "none": np.ones(3)}
    times = {"sides": np.full(3, 0.6), "none": np.array([0.6, 0.7, 0.8])}
    left, right = plots.shift_rules(sides, shifts, times, "title").axes
    for name in shifts:
        np.testing.assert_array_equal(lines(left)[name].get_ydata(), shifts[name])
        np.testing.assert_array_equal(lines(right)[name].get_ydata(), times[name])
    assert lines(left)["sides"].get_color() == lines(right)["sides"].get_color()
