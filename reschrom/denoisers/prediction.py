"""When a network generates each resolution, from clean pictures alone, and how far such a prediction carries.

Two formulas stand for the network, one that knows what windows of such pictures look like and one that remembers the
pictures too. What networks did on other pictures says how far they may be from both.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images, one_number
from reschrom.denoisers._images import halving_images, known_generator
from reschrom.denoisers.losses import rates_from_losses
from reschrom.denoisers.windows import NearestImage, WindowMixture
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import Interval
from reschrom.theory.schedules import Schedule

# By so much of the schedule networks were outside of what the two formulas said, in their worst band, at most: measured
# by `companion/reference/prediction.py`, and tested on pictures left out by the page of predictions.
REACH = 0.12
# A network that loses more than this, over what the better formula does, was not trained far enough for either.
WORST = 1.25
_STEPS = 24  # of the time grid


class PredictedTimes(NamedTuple):
    """When a network should generate each resolution, finest first, in the units of the schedule.

    times: the mean times of the formula that loses less on the new pictures.
    interval: within which those of a network should lie, all at once.
    formula: "windows" or "nearest"; by the latter the new pictures are nearly copies of the known ones.
    losses: of both formulas, the squared error of the noise per number of a picture, averaged over the schedule.
    """

    times: Float[np.ndarray, " bands"]
    interval: Interval
    formula: str
    losses: dict[str, float]


def predicted_times(
    known: Images,
    new: Float[np.ndarray, "new channels height width"],
    schedule: Schedule,
    generator: np.random.Generator,
    *,
    mirror: bool = True,
    loss: float | None = None,
) -> PredictedTimes:
    """Predict the mean time at which a network generates each resolution, from pictures that it is trained on.

    The formula that loses less on new pictures is taken. Its interval reaches from the time of a `WindowMixture`, which
    remembers no picture, to its own, because pictures do not tell whether a network remembers; and beyond both by
    chance and by 0.12 of the schedule, as far as networks were outside on other pictures.

    Parameters
    ----------
    known : array, shape (N, C, S, S)
        Pictures that the network is trained on, S a power of two; a thousand or more, at most a few thousand.
    new : array, shape (N, C, S, S)
        Others, that it has not seen: two or more, better 200.
    schedule : Schedule
        Of the network, with a last time.
    generator : numpy Generator
        Of what is drawn to fit the formulas, and of the noise.
    mirror : bool
        Whether the mirror image of a picture is such a picture, too. That of a digit is none.
    loss : float, optional
        Of the network, where it is known: the squared error of its noise prediction per number of a new picture,
        averaged over uniform times of the schedule.

    Raises
    ------
    ValueError
        For pictures that do not fit, a schedule without a last time, and a network whose loss is more than 1.25 times
        that of the formula: it was not trained far enough for its times to be those of a good denoiser.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import GaussianField, Schedule, predicted_times
    >>> field, rng = GaussianField([1, 4, 16], channels=1), np.random.default_rng(0)
    >>> known, new = field.sample(1000, rng), field.sample(100, rng)
    >>> predicted_times(known, new, Schedule.cosine(), rng).times.round(1).tolist()
    [0.5, 0.7, 0.8]
    """
    generator = known_generator(generator)
    known, new = halving_images(known, least=3), halving_images(new, least=2)
    if known.shape[1:] != new.shape[1:]:
        raise ValueError(f"known and new pictures have one shape; got {known.shape[1:]} and {new.shape[1:]}")
    if not np.isfinite(schedule.end):
        raise ValueError(f"times are predicted on a schedule with a last time; {schedule.name} has none")
    if loss is not None and not 0 < one_number("the loss of a network", loss) < np.inf:
        raise ValueError(f"the loss of a network is a positive number; got {loss}")
    edges = np.linspace(schedule.start, schedule.end, _STEPS + 1)
    seed = int(generator.integers(2**31))  # the same noise for both, so that their difference is no chance
    # Both fit a mixture of windows: one of the pictures, the other of what the nearest picture leaves of them.
    rates = {
        name: rates_from_losses(
            fit(known, generator, mirror=mirror).denoise, new, schedule, edges, np.random.default_rng(seed), name
        )
        for name, fit in (("windows", WindowMixture), ("nearest", NearestImage))
    }
    losses = {name: _noise_error(each, schedule) / new[0].size for name, each in rates.items()}
    best = min(losses, key=lambda name: losses[name])
    if loss is not None and loss > WORST * losses[best]:
        raise ValueError(
            f"the network loses {loss:.3g}, more than {WORST} times the {losses[best]:.3g} of the formula "
            f"({best}): train it further, or measure it, because its times are not those of a good denoiser"
        )
    reach = REACH * (schedule.end - schedule.start)
    ends = [rates[name].centroid_interval(simultaneous=True) for name in {"windows", best}]
    low, high = (pick([each[i] for each in ends], axis=0) for i, pick in enumerate((np.min, np.max)))
    interval = Interval(*np.clip([low - reach, high + reach], schedule.start, schedule.end))
    return PredictedTimes(rates[best].centroids(), interval, best, losses)


def _noise_error(rates: Chromatogram, schedule: Schedule) -> float:
    """Return the squared error of the noise, averaged over time. What is not yet generated is lost."""
    times = rates.edges[1:]  # at the first, the picture, nothing is lost and there is no noise
    lost = np.cumsum(rates.rates.sum(axis=0) * np.diff(rates.edges))
    return float(np.trapezoid(schedule.snr(times) * lost, times) / (times[-1] - times[0]))
