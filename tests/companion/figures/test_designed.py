"""The figures of designed timesteps and schedules show the numbers they are given, at the places they belong to."""

import numpy as np

from reschrom import Chromatogram, Schedule, designed_schedule
from reschrom.companion import figures
from reschrom.plots._figure import INK

SIDE = 8


def test_every_list_is_a_row_of_ticks_under_the_chromatogram():
    lists = {"uniform": [900, 500, 100], "designed": [999, 300]}
    edges = np.linspace(-1, 999, 101)
    chromatogram = Chromatogram.predicted(Schedule.cosine(), SIDE, edges=np.linspace(0, 1, 101))
    chromatogram = Chromatogram(chromatogram.rates, edges, SIDE, "cosine")
    _, below, *_ = figures.timestep_lists(lists, chromatogram, "title").axes
    places = [[segment[0, 0] for segment in row.get_segments()] for row in below.collections]
    assert places == [[900, 500, 100], [999, 300]]
    assert [label.get_text() for label in below.get_yticklabels()] == ["uniform", "designed"]
    assert below.get_xlim() == (999, -1)


def test_errors_are_drawn_over_steps_and_the_designed_one_stands_out():
    errors = {"uniform": {5: 0.5, 10: 0.3}, "designed": {5: 0.2, 10: 0.1}}
    figure = figures.errors_by_steps(errors, "error", "title")
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_array_equal(lines["uniform"].get_ydata(), [0.5, 0.3])
    np.testing.assert_array_equal(lines["designed"].get_xdata(), [5, 10])
    assert lines["designed"].get_color() == INK["gaussian"]


def test_bars_add_up_to_the_whole_time_with_the_coarsest_band_first():
    shares = {"one": np.array([0.1, 0.2, 0.3, 0.4]), "two": np.full(4, 0.25)}
    axes = figures.time_shares(shares, SIDE, "title").axes[0]
    first = axes.patches[:4]
    np.testing.assert_allclose([bar.get_width() for bar in first], [0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose([bar.get_x() for bar in first], [0, 0.4, 0.7, 0.9])
    assert axes.get_legend_handles_labels()[1] == ["1x1", "2x2", "4x4", "8x8"]


def test_noise_levels_show_each_schedule_and_each_band():
    marks = np.array([3.0, 1.0, -1.0, -3.0])
    schedules = {"cosine": Schedule.cosine(), "designed": designed_schedule(SIDE)}
    axes = figures.noise_levels(schedules, marks, SIDE, "title").axes[0]
    heights = [line.get_ydata()[0] for line in axes.get_lines()[:4]]
    np.testing.assert_array_equal(heights, marks)
    t = axes.get_lines()[4].get_xdata()
    np.testing.assert_array_equal(axes.get_lines()[4].get_ydata(), Schedule.cosine().log_snr(t))
    assert axes.get_xlim() == (1, 0)
