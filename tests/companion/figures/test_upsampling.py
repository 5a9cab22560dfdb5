"""The figure of Upsample Guidance: what stands where, and the same bytes every time."""

import numpy as np
import pytest

from reschrom.companion import figures


def ratios():
    found = np.array([1.2, 0.9, 0.6, 0.5])
    sets = {name: (found * factor, np.stack([0.8 * found, 1.3 * found])) for name, factor in (("a", 1.0), ("b", 0.9))}
    return figures.distance_ratios({"one model": sets, "another": {"a": sets["a"]}}, 8, "Ratios")


@pytest.mark.lasting
def test_the_figure_is_the_same_every_time():
    assert ratios()._repr_mimebundle_() == ratios()._repr_mimebundle_()


def test_ratios_run_from_coarse_to_fine_with_their_intervals_beside_one():
    figure = ratios()
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["one model", "another"]
    first, second = figure.axes
    assert [len(axes.containers) for axes in figure.axes] == [2, 1]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["1x1", "2x2", "4x4", "8x8"]
    assert set(first.lines[0].get_ydata()) == {1}
    drawn = second.containers[0]
    np.testing.assert_allclose(drawn.lines[0].get_ydata(), [0.5, 0.6, 0.9, 1.2])
    ends = np.array([segment[:, 1] for segment in drawn.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends[-1], [0.96, 1.56])
