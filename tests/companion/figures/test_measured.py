"""The figures of guided models show the numbers they are given, at the places they belong to."""

import numpy as np
import pytest

from reschrom import Chromatogram, Schedule
from reschrom.companion import figures
from reschrom.plots._figure import INK
from reschrom.plots.chromatograms import scaled_shares

SIDE = 4
EDGES = np.linspace(0, 1000, 6)


@pytest.fixture
def theory() -> Chromatogram:
    paper = Chromatogram.predicted(Schedule.cosine(), SIDE, edges=EDGES / 1000)
    return Chromatogram(paper.rates, EDGES, SIDE, "paper")


@pytest.fixture
def measured() -> Chromatogram:
    generator = np.random.default_rng(0)
    rates = generator.uniform(1, 2, (3, 5))
    return Chromatogram(rates, EDGES, SIDE, "seen", rates * generator.uniform(0.9, 1.1, (50, 3, 5)))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (2, 4, SIDE, SIDE))


def maps(figure) -> list[np.ndarray]:
    """Return what the heat maps show, without the colour bar."""
    meshes = [mesh for axes in figure.axes for mesh in axes.collections if type(mesh).__name__ == "QuadMesh"]
    assert len({mesh.get_clim() for mesh in meshes}) == 1 or len(meshes) == 1
    return [np.asarray(mesh.get_array()) for mesh in meshes if np.shape(mesh.get_array()) == (3, 5)]


def test_theory_and_measurement_stand_side_by_side_on_one_scale_and_one_time_axis(theory, measured, images):
    figure = figures.guidance_chromatography(theory, measured, {"a": list(images), "b": list(-images)}, "title")
    left, right = maps(figure)
    np.testing.assert_array_equal(left, scaled_shares(theory)[::-1])
    np.testing.assert_array_equal(right, scaled_shares(measured)[::-1])
    heat = [axes for axes in figure.axes if axes.get_xlabel() == "timestep"]
    assert [axes.get_xlim() for axes in heat] == [(1000, 0)] * 2
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes if axes.get_images()]
    # of a latent, the first three channels
    np.testing.assert_allclose(shown[3], np.moveaxis(-images[1][:3], 0, -1) / 2 + 0.5)
    place = figure.axes[1].get_position()
    assert place.width * figure.get_figwidth() == pytest.approx(place.height * figure.get_figheight(), rel=0.05)


def test_share_panels_draw_each_band_in_its_panel_and_intervals_only_where_there_are_some(theory, measured):
    figure = figures.share_panels({"seen": ("measured", measured), "said": ("paper", theory)}, "title")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["4x4", "2x2", "1x1"]
    lower, _ = measured.interval(simultaneous=True)
    for band, axes in enumerate(panels):
        seen, said = axes.get_lines()
        np.testing.assert_array_equal(seen.get_ydata(), measured.shares[band])
        np.testing.assert_array_equal(said.get_ydata(), theory.shares[band])
        assert said.get_color() == INK["paper"]
        (interval,) = axes.collections
        assert interval.get_paths()[0].vertices[:, 1].min() == pytest.approx(lower[band].min())
        assert axes.get_xlim() == (1000, 0)


def test_energies_of_one_kind_differ_in_colour_and_what_has_died_is_cut_off():
    times = np.array([100.0, 500.0, 900.0])
    lines = {name: ("theory", times, np.array([1e-30, scale, 10.0])) for name, scale in (("a", 1.0), ("b", 2.0))}
    (axes,) = figures.energies(lines, "title", "energy").axes
    first, second = axes.get_lines()
    assert first.get_color() != second.get_color()
    assert axes.get_ylim()[0] == 1e-3
    assert axes.get_xlim() == (900, 100)


def test_prompt_panels_put_the_theory_first_and_samples_under_each_prompt(theory, measured, images):
    panels = {"first": (measured, list(images)), "second": (theory, list(-images)), "third": (measured, list(images))}
    figure = figures.prompt_panels(theory, panels, "title")
    for shown, expected in zip(maps(figure), (theory, measured, theory, measured), strict=True):
        np.testing.assert_array_equal(shown, scaled_shares(expected)[::-1])
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes if axes.get_images()]
    assert len(shown) == 6
    np.testing.assert_allclose(shown[2], np.moveaxis(-images[0][:3], 0, -1) / 2 + 0.5)


def test_centroid_spread_has_a_dot_for_every_caption_and_a_bar_at_the_median(theory):
    spread = np.random.default_rng(0).uniform(0, 1000, (9, 3))
    lines = {"said": ("paper", theory.centroids())}
    (axes,) = figures.centroid_spread(spread, lines, SIDE, (0.0, 1000.0), "title").axes
    for row, (dots, bar) in enumerate(zip(axes.collections, axes.get_lines(), strict=False)):
        offsets = np.asarray(dots.get_offsets())
        np.testing.assert_array_equal(np.sort(offsets[:, 0]), np.sort(spread[:, 2 - row]))
        assert np.abs(offsets[:, 1] - row).max() < 0.5
        assert bar.get_xdata()[0] == np.median(spread[:, 2 - row])
    np.testing.assert_array_equal(axes.get_lines()[-1].get_xdata(), theory.centroids()[::-1])
    assert axes.get_xlim() == (1000, 0)
