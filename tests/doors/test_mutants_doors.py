"""Mistakes that wrong lines of the checks would let through, or say wrongly."""

import numpy as np
import pytest
from doors.door import Row, refuse

from reschrom import Chromatogram, Schedule
from reschrom.denoisers.losses import band_losses
from reschrom.theory.shares import decided_share
from reschrom.theory.spectrum import SpectrumSums

EDGES = np.array([0.0, 0.5, 1.0])


class Clipped:
    """A network whose estimates lie in a range."""

    value_range = (1.0, 3.0)

    def __call__(self, x_t, alpha):
        return np.clip(x_t, *self.value_range)


def lost(value):
    """Measure the losses of images that hold one value beside 2."""
    images = np.full((2, 1, 2, 2), 2.0)
    images[0, 0, 0, 0] = value
    return band_losses(Clipped(), images, Schedule.cosine(), EDGES[1:2], np.random.default_rng(0))


MISTAKES = {
    "a rate below 0 beside one of 0": Row(
        lambda: Chromatogram(np.array([[0.0, 1.0], [-2.0, 1.0]]), EDGES, 2, "made up"),
        ValueError,
        r"finite and not negative; got -2\.0",
    ),
    "one power above 1": Row(lambda: Schedule.from_alphas([1.2, 0.5, 0.1]), ValueError, r"fall .* within \[0, 1\]"),
    "one power below 0": Row(lambda: Schedule.from_alphas([0.9, 0.5, -0.1]), ValueError, r"fall .* within \[0, 1\]"),
    "a power twice": Row(lambda: Schedule.from_alphas([0.9, 0.5, 0.5]), ValueError, r"fall from timestep to timestep"),
    "images of two prompts of other sizes": Row(
        lambda: decided_share(np.zeros((2, 1, 4, 4)), np.zeros((2, 1, 1, 1)), np.ones((2, 1, 1, 1))),
        ValueError,
        r"of one shape \(N, C, H, W\); got \(2, 1, 4, 4\), \(2, 1, 1, 1\) and \(2, 1, 1, 1\)",
    ),
    "a chunk of NaN": Row(
        lambda: SpectrumSums.of(np.full((2, 3, 4, 4), np.nan), 0, ""), ValueError, r"images must be finite; got NaN"
    ),
    "images above the range of a network": Row(lambda: lost(3.3), ValueError, r"\(1, 3\); got .* from 2 to 3\.3"),
    "images below the range of a network": Row(lambda: lost(0.7), ValueError, r"\(1, 3\); got .* from 0\.7 to 2"),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_clear_error(mistake, tmp_path):
    refuse(MISTAKES[mistake], tmp_path)


@pytest.mark.parametrize("value", [0.85, 3.15])
def test_images_may_leave_the_range_of_a_network_by_a_tenth_of_it(value):
    assert np.all(np.isfinite(lost(value).mean))
