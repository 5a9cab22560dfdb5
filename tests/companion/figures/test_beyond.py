"""The figures of what the paper leaves open show the numbers they are given."""

import numpy as np

from reschrom.companion import figures


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_shift_rules_show_shift_and_time_of_every_rule():
    sides = np.array([256, 512, 1024])
    shifts = {"sides": sides / 256, "none": np.ones(3)}
    times = {"sides": np.full(3, 0.6), "none": np.array([0.6, 0.7, 0.8])}
    left, right = figures.shift_rules(sides, shifts, times, "title").axes
    for name in shifts:
        np.testing.assert_array_equal(lines(left)[name].get_ydata(), shifts[name])
        np.testing.assert_array_equal(lines(right)[name].get_ydata(), times[name])
    assert lines(left)["sides"].get_color() == lines(right)["sides"].get_color()


def test_survival_strip_puts_every_edit_over_the_time_it_began_at():
    columns = [np.full((2, 3, 4, 4), v) for v in (-0.5, 0.0, 0.5)]
    times = [0.6, 0.3, 0.0]
    measured = {t: np.array([[0.1, 0.4, 0.8], [0.2, 0.5, 0.9], [0.3, 0.6, 1.0]]) for t in times[:-1]}
    grid, predicted = np.linspace(0, 0.9, 5), np.linspace(1, 0, 15).reshape(3, 5)
    figure = figures.survival_strip(columns, times, measured, grid, predicted, "title")
    *pictures, axes = figure.axes
    assert len(pictures) == 6
    box, (start, end) = axes.get_position(), axes.get_xlim()
    for index, picture in enumerate(pictures):
        place = picture.get_position()
        expected = box.x0 + box.width * (times[index // 2] - start) / (end - start)
        assert abs((place.x0 + place.x1) / 2 - expected) < 0.01
    for curve, name in zip(predicted, ("4x4", "2x2", "1x1"), strict=True):
        np.testing.assert_array_equal(lines(axes)[name].get_ydata(), curve)
    shown = [line.get_ydata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
    np.testing.assert_array_equal(shown, [0.2, 0.5, 0.9] * 2)


def test_worst_errors_stand_in_their_rows_from_the_top_and_what_is_beyond_stands_at_the_edge():
    panels = {"a": {"x": {"one": 0.1, "two": 0.9}, "y": {"one": 0.2, "two": 0.3}}, "b": {"z": {"one": 0.0, "two": 0.4}}}
    figure = figures.worst_errors(panels, "title", "error", 0.5)
    top, bottom = figure.axes
    np.testing.assert_array_equal(lines(top)["one"].get_xdata(), [0.1, 0.2])
    np.testing.assert_array_equal(lines(top)["two"].get_xdata(), [0.5, 0.3])
    np.testing.assert_array_equal(lines(top)["one"].get_ydata(), [1, 0])
    assert [label.get_text() for label in top.get_yticklabels()] == ["x", "y"]
    assert lines(top)["two"].get_color() == lines(bottom)["two"].get_color()


def test_errors_stand_over_ratios_of_losses_and_what_is_refused_is_shaded():
    cases = {"a": np.array([[0.5, 2.0], [-0.1, 0.2]]), "b": np.array([[1.0], [0.0]])}
    (axes,) = figures.error_by_loss(cases, 1.25, "title").axes
    for name, (ratio, error) in cases.items():
        np.testing.assert_array_equal(lines(axes)[name].get_data(), (ratio, error))
    (shaded,) = axes.patches
    assert shaded.get_x() == 1.25
    assert shaded.get_x() + shaded.get_width() >= 2
