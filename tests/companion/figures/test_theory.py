"""The figures of the theory pages show the numbers they are given."""

import numpy as np
import pytest
from matplotlib.patches import ConnectionPatch

from reschrom import Schedule, matched_time
from reschrom.companion import figures
from reschrom.companion.figures.theory import _ratio
from reschrom.theory.chromatography import generated_signal

TIMES = np.array([0.9, 0.5, 0.1])
PICTURES = np.random.default_rng(0).uniform(-1, 1, (3, 3, 8, 8))


def test_adjusted_times_are_those_of_the_scaling_relation() -> None:
    """Each line of Paper Fig. 3 is tau_m; in units of log SNR each lies log 4 above the one before."""
    schedule = Schedule.cosine()
    clocks, shift = figures.adjusted_times(schedule, 16).axes
    assert clocks.get_xlim() == (1, 0), "noise is at the left"
    assert len(clocks.lines) == len(shift.lines) == 5
    for m, (clock, line) in enumerate(zip(clocks.lines, shift.lines, strict=True)):
        t, tau = clock.get_data()
        np.testing.assert_allclose(tau, matched_time(schedule, t, m), atol=1e-12)
        np.testing.assert_allclose(line.get_ydata() - line.get_xdata(), m * np.log(4))


def test_crowded_names_are_left_out() -> None:
    """Lines that are too close to label are named at the right only."""
    clocks, shift = figures.adjusted_times(Schedule.cosine(), 256).axes
    assert 3 < len(clocks.texts) < len(shift.texts) == 9


def test_clocks_of_a_schedule_that_stops_early_end_below_the_last_time() -> None:
    """The dots stand at tau_m(T): at T for flow matching, below it for the linear schedule."""
    figure = figures.clocks_of({"linear": Schedule.linear(), "flow": Schedule.flow_matching()}, 8)
    linear, flow = (axes.collections[0].get_offsets()[:, 1] for axes in figure.axes)
    assert np.all(np.diff(linear) < 0)
    np.testing.assert_allclose(flow, 1)


def test_forward_process_shows_every_image_and_its_signal_power() -> None:
    """One picture for each time, one dot at alpha of that time."""
    schedule = Schedule.cosine()
    *pictures, chart = figures.forward_process(schedule, TIMES, PICTURES).axes
    assert len(pictures) == len(TIMES)
    dots = np.array([line.get_data() for line in chart.lines if line.get_marker() == "o"])[..., 0]
    np.testing.assert_allclose(dots, np.stack([TIMES, schedule.alpha(TIMES)], axis=1))


@pytest.mark.lasting
def test_pooled_photograph_links_each_pooled_picture_to_the_next_noised_one() -> None:
    """Arrows down to each pooled picture; a line from each to the next column of the row below."""
    figure = figures.pooled_photograph(TIMES, np.array([1 / 16, 1.0, 16.0]), PICTURES, PICTURES, PICTURES)
    links = [artist for artist in figure.artists if isinstance(artist, ConnectionPatch)]
    slanted = [link for link in links if link.axesA.get_position().x0 < link.axesB.get_position().x0]
    assert len(links) == 5
    assert len(slanted) == 2
    assert "image/png" in figure._repr_mimebundle_()


def test_measured_snr_draws_measurement_over_prediction() -> None:
    """Dots at the measured ratios, and their deviation in percent below."""
    predicted = np.array([[0.1, 1.0, 10.0], [0.4, 4.0, 40.0]])
    measured = predicted * np.array([1.01, 0.98, 1.0])
    ratio, residual = figures.measured_snr(TIMES, predicted, measured, 0.01 * predicted, 8).axes
    np.testing.assert_allclose([line.get_ydata() for line in ratio.lines if line.get_marker() == "o"], measured)
    np.testing.assert_allclose(residual.containers[0].lines[0].get_ydata(), [1, -2, 0], atol=1e-9)


def test_ddim_spread_draws_measurement_over_prediction() -> None:
    """A line and dots for each variance."""
    [axes] = figures.ddim_spread((4, 8), {0: [0.7, 0.8], 2: [0.4, 0.6]}, {0: [0.7, 0.8], 2: [0.4, 0.6]}).axes
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines[:4]], [[0.7, 0.8]] * 2 + [[0.4, 0.6]] * 2)


def test_prompts_over_time_shows_the_signal_that_is_there() -> None:
    """Rows of the heat map are alpha at tau_m, one pixel at the bottom; the first prompt fills the noisy side."""
    schedule = Schedule.cosine()
    strip, heat, _ = figures.prompts_over_time(schedule, 0.8, 8, ("first", "second")).axes
    shares = heat.collections[0].get_array()
    middle = schedule.alpha((np.arange(300) + 0.5) / 300)
    np.testing.assert_allclose(shares, generated_signal(middle, 3)[::-1], rtol=1e-9)
    first = strip.patches[0].get_extents()
    second = strip.patches[1].get_extents()
    assert first.x0 < second.x0
    assert first.width < second.width


@pytest.mark.parametrize(("value", "text"), [(16.0, "16"), (1.0, "1"), (0.25, "1/4"), (1 / 1024, "1/1024")])
def test_ratios_are_written_as_people_say_them(value: float, text: str) -> None:
    """Ratios below one are fractions."""
    assert _ratio(value) == text


@pytest.mark.lasting
def test_figures_are_the_same_bytes_every_time() -> None:
    """Two drawings of one figure have equal bytes."""
    first, second = (figures.adjusted_times(Schedule.cosine(), 8)._repr_mimebundle_() for _ in range(2))
    assert first == second
