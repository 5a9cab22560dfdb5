"""The figures of shrinking images: what stands where, and the same bytes every time."""

import numpy as np
import pytest

from reschrom import Chromatogram, Schedule
from reschrom.companion import figures

CHROMATOGRAM = Chromatogram.predicted(Schedule.cosine(), 8)


def stairs():
    return figures.staircases(CHROMATOGRAM, {"one": (0.3, 0.6), "two": (0.5,)}, "Stairs")


def quality():
    cost, distance = np.array([0.25, 0.5, 1.0]), np.array([0.3, 0.2, 0.1])
    ends = np.stack([0.9 * distance, 1.2 * distance])
    curves = {"a": (cost, distance, ends), "b": (2 * cost, distance, ends)}
    return figures.quality_by_compute({"pixels": curves, "hours": {"a": curves["a"]}}, {"real": 0.05}, "distance", "Q")


def differences():
    cost, less = np.array([0.2, 0.5]), np.array([-0.1, 0.2])
    curve = (cost, less, np.stack([less - 0.05, less + 0.1]))
    return figures.differences_by_compute({"all": {"a": curve, "b": curve}, "one": {"a": curve}}, "pixels", "less", "D")


@pytest.mark.lasting
@pytest.mark.parametrize("draw", [stairs, quality, differences], ids=lambda draw: draw.__name__)
def test_a_figure_is_the_same_every_time(draw):
    assert draw()._repr_mimebundle_() == draw()._repr_mimebundle_()


def test_a_staircase_goes_down_one_resolution_at_each_turning_point():
    axes = stairs().axes[0]
    assert axes.get_xlim() == (1, 0), "noise is at the left"
    one, two = axes.lines
    np.testing.assert_array_equal(one.get_xdata(), [0, 0.3, 0.3, 0.6, 0.6, 1])
    np.testing.assert_allclose(np.diff(one.get_ydata()), [0, -1, 0, -1, 0], atol=1e-12)
    np.testing.assert_array_equal(two.get_xdata(), [0, 0.5, 0.5, 1])
    # The top row of the heat map, 8x8, is from 2.5 to 3.5.
    assert 2.5 < two.get_ydata()[0] < one.get_ydata()[0] < 3.5


def test_quality_is_drawn_with_intervals_beside_what_is_real():
    figure = quality()
    first, second = figure.axes
    assert [len(axes.containers) for axes in figure.axes] == [2, 1]
    assert [axes.get_xlabel() for axes in figure.axes] == ["pixels", "hours"]
    drawn = first.containers[0]
    np.testing.assert_allclose(drawn.lines[0].get_xydata(), [[0.25, 0.3], [0.5, 0.2], [1.0, 0.1]])
    ends = np.array([segment[:, 1] for segment in drawn.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, [[0.27, 0.36], [0.18, 0.24], [0.09, 0.12]])
    assert set(second.lines[-1].get_ydata()) == {0.05}
    assert second.get_ylim()[0] == 0


def test_differences_stand_beside_zero_with_their_intervals():
    first, second = differences().axes
    assert [len(axes.containers) for axes in (first, second)] == [2, 1]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0.2", "0.5"]
    assert set(first.lines[0].get_ydata()) == {0}
    drawn = second.containers[0]
    np.testing.assert_allclose(drawn.lines[0].get_xydata(), [[0, -0.1], [1, 0.2]])
    ends = np.array([segment[:, 1] for segment in drawn.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, [[-0.15, 0.0], [0.15, 0.3]])
    one, other = (container.lines[0].get_xdata() for container in first.containers)
    assert np.all(one < other), "markers at one place do not hide each other"
