"""The figures of the proofs, and the paper's chromatogram, show the numbers they are given."""

import numpy as np

from reschrom import Chromatogram, Schedule, bands, chromatography, downsample, plots
from reschrom.companion import figures

SCHEDULES = [Schedule.cosine(), Schedule.linear(), Schedule.flow_matching()]
PICTURE = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8))


def test_chromatogram_names_every_resolution_at_its_peak() -> None:
    """No two names of Paper Fig. 4 touch: where peaks crowd, the names climb."""
    chromatogram = Chromatogram.predicted(Schedule.cosine(), 64)
    figure = plots.chromatogram(chromatogram)
    figure.draw_without_rendering()
    names = figure.axes[0].texts
    peaks = chromatogram.times[np.argmax(chromatogram.shares, axis=1)]
    assert [name.get_text() for name in names] == chromatogram.band_names
    np.testing.assert_allclose([name.xy[0] for name in names], peaks)
    boxes = [name.get_window_extent() for name in names]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_heat_maps_share_one_time_axis_and_one_colour_scale() -> None:
    """Each map under its own name, rows from one pixel up, scaled by the largest share of a time, with its ridge."""
    two = [Chromatogram.predicted(schedule, 8, name=schedule.name) for schedule in SCHEDULES[:2]]
    *maps, bar = plots.heat_maps(two, "Two schedules").axes
    assert [axes.get_title(loc="left") for axes in maps] == ["cosine", "linear"]
    for axes, chromatogram in zip(maps, two, strict=True):
        mesh = axes.collections[0]
        assert mesh.get_clim() == (0, 1)
        np.testing.assert_array_equal(mesh.get_array(), (chromatogram.shares / chromatogram.shares.max(axis=0))[::-1])
        (ridge,) = axes.lines
        mean = np.arange(4) @ chromatogram.shares[::-1]
        np.testing.assert_allclose(ridge.get_ydata(), mean, rtol=1e-12)
        assert axes.get_xlim() == (1, 0), "noise is at the left"
    assert bar.get_ylabel() == "share, of the largest at its time"


def test_one_chromatogram_puts_all_schedules_on_one_set_of_curves() -> None:
    """Every line and marker at the right is the closed form at its signal-to-noise ratio."""
    *alone, together = sorted(figures.one_chromatogram(SCHEDULES, 16).axes, key=lambda axes: axes.get_position().x0)
    assert [len(axes.lines) for axes in alone] == [5, 5, 5]
    assert all(axes.get_xlim() == (1, 0) for axes in alone), "noise is at the left"
    curves = [line for line in together.lines if len(line.get_xdata())]
    assert len(curves) == 15
    for index, line in enumerate(curves):
        snr, share = line.get_data()
        np.testing.assert_allclose(share, chromatography(snr / (1 + snr), 4)[index % 5], rtol=1e-6)


def test_natural_process_draws_the_paths_around_their_mean() -> None:
    times, natural = np.linspace(0, 4, 9), Schedule.natural()
    paths = np.full((9, 2), 1.5)
    (axes,) = figures.natural_process(times, paths, 1.5, natural).axes
    *drawn, mean = [line for line in axes.lines if len(line.get_xdata())]
    np.testing.assert_array_equal([line.get_ydata() for line in drawn], paths.T)
    np.testing.assert_allclose(mean.get_ydata(), 1.5 * np.exp(-times / 2))
    spread = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(spread[:, 1].max(), np.max(1.5 * np.exp(-times / 2) + 2 * np.sqrt(1 - np.exp(-times))))


def test_shifted_bells_puts_the_dots_on_the_lines() -> None:
    """A line for each resolution, and dots on it for all but the finest."""
    (axes,) = figures.shifted_bells(16, 12.0).axes
    drawn = [line for line in axes.lines if len(line.get_xdata())]
    lines = [line for line in drawn if line.get_marker() == "None"]
    dots = [line for line in drawn if line.get_marker() == "o"]
    assert (len(lines), len(dots)) == (5, 4)
    np.testing.assert_allclose(lines[0].get_ydata(), np.exp(-lines[0].get_xdata()))
    for line, dot in zip(lines[1:], dots, strict=True):
        np.testing.assert_allclose(np.interp(dot.get_xdata(), *line.get_data()), dot.get_ydata(), atol=1e-3)


def test_noise_cascade_shows_coarse_to_fine_from_left_to_right() -> None:
    noises = [2**m * downsample(PICTURE, m) for m in range(4)]
    figure = figures.noise_cascade([2**m * band for m, band in enumerate(bands(PICTURE))], noises)
    sizes = [axes.images[0].get_size() for axes in figure.axes]
    assert sizes == [(1, 1), (2, 2), (4, 4), (8, 8)] * 2
    assert [axes.get_title() for axes in figure.axes[:4]] == ["1x1", "2x2", "4x4", "8x8"]
    assert "image/png" in figure._repr_mimebundle_()


def test_thresholded_draws_the_shares_from_coarse_to_fine() -> None:
    kept = {"printed": np.array([0.5, 0.4, 0.3]), "corrected": np.array([0.9, 0.8, 0.7])}
    *pictures, chart = figures.thresholded({"image": PICTURE, "estimate": 2 * PICTURE}, kept, 8, "A title").axes
    assert [axes.get_title() for axes in pictures] == ["image", "estimate"]
    assert [axes.images[0].get_array().max() <= 1 for axes in pictures] == [True, True]
    np.testing.assert_array_equal([line.get_ydata() for line in chart.lines[:2]], [[0.3, 0.4, 0.5], [0.7, 0.8, 0.9]])
    assert [tick.get_text() for tick in chart.get_xticklabels()] == ["2x2", "4x4", "8x8"]
