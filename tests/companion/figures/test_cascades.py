"""Figures of the cascade: what stands where, and the same bytes every time."""

import numpy as np
import pytest

from reschrom import downsample, upsample
from reschrom.companion import figures
from reschrom.companion.figures.cascades import mosaic
from reschrom.theory.intervals import Interval

NOISE = np.random.default_rng(0).standard_normal((3, 8, 8))
IMAGES = np.random.default_rng(1).uniform(-1, 1, (4, 3, 8, 8))


def step():
    low = 2 * downsample(NOISE)
    tensors = {"x_t": NOISE, "low": low, "low noise": low, "up": upsample(low) / 2, "residual": NOISE, "noise": NOISE}
    return figures.cascade_step({**tensors, "estimate": IMAGES[0]}, 480.0, 330.4, 1.432, 2.0, "One step")


def corners():
    shown = {(time, intensity): IMAGES for time in (True, False) for intensity in (True, False)}
    return figures.ablation(downsample(IMAGES), shown, 2, "Corners")


def blocks():
    return figures.sample_blocks({"plain": IMAGES, "corrected": IMAGES[:3]}, 2, "Blocks")


def distances():
    found = np.array([0.1, 0.2, 0.3, 0.4])
    drawn = {name: (found, Interval(0.5 * found, 2 * found)) for name in ("full", "none")}
    return figures.band_distances(drawn, {"chance": found / 4}, 8, "Distances")


def ratios():
    found = {"threshold": np.array([0.8, 0.4, 0.2, 0.1]), "no threshold": np.array([1.0, 2.0, 3.0, 4.0])}
    return figures.variance_ratios({"networks": found, "field": found}, 8, "Ratios")


def words(figure):
    return [text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))]


@pytest.mark.lasting
@pytest.mark.parametrize("draw", [step, corners, blocks, distances, ratios], ids=lambda draw: draw.__name__)
def test_a_figure_is_the_same_every_time(draw):
    assert draw()._repr_mimebundle_() == draw()._repr_mimebundle_()


def test_the_diagram_has_every_tensor_at_its_own_size_and_names_the_adjustments():
    figure = step()
    sizes = [axes.images[0].get_array().shape[0] for axes in figure.axes]
    assert sorted(sizes) == [4, 4, 8, 8, 8, 8, 8]
    widths = [axes.get_position().width for axes in figure.axes]
    np.testing.assert_allclose(np.array(widths) / widths[0], np.array(sizes) / sizes[0])
    told = " ".join(words(figure))
    assert "480" in told
    assert "330" in told
    assert "1.43" in told


def test_the_ablation_frames_the_full_method_alone_and_keeps_pixels_of_one_size():
    figure = corners()
    framed = [axes for axes in figure.axes if axes.spines["left"].get_visible()]
    assert len(figure.axes) == 5
    assert len(framed) == 1
    right, below = framed[0].get_position().x0, framed[0].get_position().y0
    assert all(axes.get_position().x0 <= right and axes.get_position().y0 >= below for axes in figure.axes)
    pixel = [axes.get_position().width / axes.images[0].get_array().shape[1] for axes in figure.axes]
    np.testing.assert_allclose(pixel, pixel[0])


def test_a_block_has_the_name_of_its_set():
    assert [axes.get_title(loc="center") for axes in blocks().axes] == ["plain", "corrected"]


def test_distances_run_from_coarse_to_fine_with_their_intervals():
    (axes,) = distances().axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1x1", "2x2", "4x4", "8x8"]
    first = axes.containers[0]
    np.testing.assert_allclose(first.lines[0].get_ydata(), [0.4, 0.3, 0.2, 0.1])
    ends = np.array([segment[:, 1] for segment in first.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, [[0.2, 0.8], [0.15, 0.6], [0.1, 0.4], [0.05, 0.2]])


def test_ratios_have_a_panel_for_each_model_and_a_dashed_line_without_threshold():
    for axes, model in zip(ratios().axes, ("networks", "field"), strict=True):
        assert axes.get_title(loc="left") == model
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1x1", "2x2", "4x4", "8x8"]
        lines = {line.get_label(): line for line in axes.get_lines()}
        np.testing.assert_array_equal(lines["threshold"].get_ydata(), [0.1, 0.2, 0.4, 0.8])
        np.testing.assert_array_equal(lines["no threshold"].get_ydata(), [4.0, 3.0, 2.0, 1.0])
        assert lines["threshold"].get_linestyle() == "-"
        assert lines["no threshold"].get_linestyle() == "--"


def test_images_stand_row_by_row_with_white_between_them():
    picture = mosaic(IMAGES, 3)
    assert picture.shape == (3, 17, 26)
    np.testing.assert_array_equal(picture[:, :8, 9:17], IMAGES[1])
    np.testing.assert_array_equal(picture[:, 9:, :8], IMAGES[3])
    assert np.all(picture[:, 8] == 1)
    assert np.all(picture[:, 9:, 8:] == 1)
