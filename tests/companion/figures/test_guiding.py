"""The figures of guidance that acts only at some times: what stands where, and the same bytes every time."""

import numpy as np
import pytest

from reschrom.companion import figures


def times():
    bands = np.array([[9.0, 8.0, 7.0], [1.0, 3.0, 5.0]])
    return figures.told_times(bands, {"all": (9.0, 2.0), "none": (9.0, 8.0)}, 4, 10.0, "Times")


def costs():
    schedules = {
        "plain": figures.Worth(2.0, {"content": (0.0, 0.0, 0.0), "style": (0.0, 0.0, 0.0)}),
        "less": figures.Worth(1.5, {"content": (-0.1, -0.3, 0.1), "style": (-0.2, -0.3, -0.1)}),
    }
    return figures.worth(schedules, "predictions", "Worth")


@pytest.mark.lasting
@pytest.mark.parametrize("draw", [times, costs], ids=lambda draw: draw.__name__)
def test_a_figure_is_the_same_every_time(draw):
    assert draw()._repr_mimebundle_() == draw()._repr_mimebundle_()


def test_bars_reach_from_the_beginning_to_the_end_of_each_band():
    axes = times().axes[0]
    assert axes.get_xlim() == (10, 0), "noise is at the left"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1x1", "2x2", "4x4"]
    reach = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_y() + 0.35) for bar in axes.patches]
    np.testing.assert_allclose(reach, [(1, 9, 2), (3, 8, 1), (5, 7, 0)])
    assert [line.get_xdata()[0] for line in axes.lines] == [2, 8]


def test_what_a_schedule_loses_stands_over_its_cost_with_its_interval():
    content, style = costs().axes
    for axes, mean, ends in [(content, -0.1, [-0.3, 0.1]), (style, -0.2, [-0.3, -0.1])]:
        *_, loss = axes.containers
        line, _, (bar,) = loss
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (1.5, mean)
        np.testing.assert_allclose(bar.get_segments()[0][:, 1], ends)
    colours = [axes.containers[-1][0].get_color() for axes in (content, style)]
    assert colours[0] != colours[1], "a loss that was measured has another colour"
