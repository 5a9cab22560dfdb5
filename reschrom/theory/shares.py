"""What share of a resolution band is decided when: by a noised image that is generated again, or by a second prompt.

Let x_t be a noised image x_0, and x_0' what is generated from it with fresh noise (SDEdit; "image to image" in
diffusers). If x_0' is a draw of the posterior, then whatever the data, `E<b x_0, b x_0'> = E||b E[x_0 | x_t]||^2` in
every band b: what survives is what is decided. What a second prompt decides is what the first has left open.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images, finite, numpy_array, one_number, real_number, refuse_channels_last, shape_told
from reschrom.theory.bands import Size, band_names, bands, cell_pixels, size_of
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import Interval, StreamingMean, interval_around
from reschrom.theory.schedules import Schedule


class BandShare(NamedTuple):
    """A share of every band, finest first, and the same for every bootstrap replicate of the images.

    0 is nothing of the band and 1 is all of it; a measurement may lie outside.
    images: how many were measured; None where that is not known.
    """

    share: Float[np.ndarray, " bands"]
    replicates: Float[np.ndarray, "replicates bands"]
    images: int | None = None

    def interval(self, level: float = 0.95) -> Interval:
        """Return the bootstrap confidence interval of every share.

        level: probability that the interval of a share covers it, over draws of the images.
        """
        return interval_around(self.share, self.replicates, level, images=self.images)


# Of the energy of all bands, what rounding may put into a band that holds nothing.
_ROUNDING = 1e-28

# Of the time of a schedule, what its chromatogram covers at least, and leaves at most.
_SEEN, _BEYOND = 0.1, 0.01

# What this type was called when it was two.
Survival = BandShare
DecidedShare = BandShare


def survival(original: Images, edited: Float[np.ndarray, "_ _ _ _"], seed: int = 0) -> BandShare:
    """Measure how much of each resolution band of images survives in what was made of them: 0 is nothing, 1 is all.

    It is the regression coefficient of the bands of the results on those of the originals, about the mean images:
    `sum <b x', b x> / sum ||b x||^2` for a band b. An estimate of E[x_0 | x_t] may stand for the results that would be
    generated from x_t; with fresh noise they have this mean.

    original, edited: the same images before and after, two or more.
    seed: of the bootstrap over images.
    Raises ValueError for other shapes, and where the originals do not differ in a band.
    """
    original, edited = numpy_array(original), numpy_array(edited)
    if original.shape != edited.shape or original.ndim != 4 or len(original) < 2:
        raise ValueError(
            "survival needs two or more images before and after, of one shape (N, C, H, W); got "
            f"{original.shape} and {shape_told(edited)}"
        )
    finite("the images before and after", original, edited)
    refuse_channels_last(original)
    inner, norm = _products(edited - edited.mean(axis=0), original - original.mean(axis=0))
    differ = _varies(norm)
    if not np.all(differ):
        same = band_names(original.shape[-2:])[int(np.argmin(differ))]
        raise ValueError(
            "the originals must differ in every band: what is the same in all cannot be seen to survive, as it is in "
            f"{same}"
        )
    return _ratio(inner, norm, seed)


def predicted_survival(
    chromatogram: Chromatogram, times: Float[np.ndarray, " times"]
) -> Float[np.ndarray, "bands times"]:
    """Return the share of each band that is generated before each time, and so survives noising to it.

    times: in the units of the chromatogram; at its last, pure noise, nothing survives.
    Exact for images from the distribution that is generated, and results that are draws of the posterior.
    """
    end, times = float(chromatogram.edges[-1]), _line("times", times)
    return 1 - predicted_share(chromatogram, times / end, end)


def decided_share(switched: Images, first: Images, second: Images, seed: int = 0) -> BandShare:
    """Measure the share of each band that the second prompt decided: 0 is all the first prompt's, 1 all the second's.

    It is the projection of each image between the two pure ones, `<b(x - a), b(c - a)> / ||b(c - a)||^2` for a band b,
    averaged over images with the weights `||b(c - a)||^2`.

    switched: images, or latents, made with both prompts. first, second: with one of them alone, from the same noise.
    seed: of the bootstrap over images.
    Raises ValueError for images of several shapes, and where the pure images do not differ.
    """
    switched, first, second = (numpy_array(each) for each in (switched, first, second))
    if not switched.shape == first.shape == second.shape or first.ndim != 4 or not len(first):
        raise ValueError(
            "a share needs images made with both prompts and with each alone, of one shape (N, C, H, W); got "
            f"{switched.shape}, {first.shape} and {shape_told(second)}"
        )
    finite("the images of the prompts", switched, first, second)
    refuse_channels_last(first)
    inner, norm = _products(switched - first, second - first)
    differ = _varies(norm)
    if not np.all(differ):
        same = band_names(first.shape[-2:])[int(np.argmin(differ))]
        raise ValueError(f"the images of the two prompts must differ in every band; they are the same in {same}")
    return _ratio(inner, norm, seed)


def predicted_share(
    chromatogram: Chromatogram, switch: Float[np.ndarray, " switches"], end: float
) -> Float[np.ndarray, "bands switches"]:
    """Return the share of each band that is generated after a switch at t = switch T, and so by the second prompt.

    switch: in [0, 1], the eta of Eq. (25). end: T in the units of the chromatogram, such as 1000 timesteps.
    A band that never grows was there from the beginning: its share is 0.
    Raises ValueError for a switch outside [0, 1].
    """
    end = real_number("the last time", end)
    switch = _line("switches", switch)
    for each in switch:
        fraction("switch", float(each))
    return np.stack([np.interp(switch * end, chromatogram.edges, each) for each in chromatogram.gained_share])


def half_decided(
    switch: Float[np.ndarray, " switches"], share: Float[np.ndarray, "bands switches"]
) -> Float[np.ndarray, " bands"]:
    """Return the switch at which half of each band is decided by the second prompt: the first crossing, interpolated.

    switch: rising. share: for instance of `predicted_share`.
    Raises ValueError for a band that does not rise through one half.
    """
    switch, share = _line("switches", switch), numpy_array(share)
    if not len(switch) or not np.all(np.diff(switch) > 0) or share.ndim != 2 or share.shape[1] != len(switch):
        raise ValueError(
            f"switches must rise, with a share of every band at each; got {switch.shape} and {share.shape}"
        )
    above = share >= 0.5
    after = above.argmax(axis=1)
    if not np.all(above.any(axis=1) & (after > 0)):
        raise ValueError("the share of every band must rise through one half between the first switch and the last")
    band = np.arange(len(share))
    low, high = share[band, after - 1], share[band, after]
    return switch[after - 1] + (0.5 - low) / (high - low) * (switch[after] - switch[after - 1])


def switch_time(chromatogram: Chromatogram, band: Size, kept: float = 0.95) -> float:
    """Return the time from which another prompt may guide, so that all bands coarser than `band` keep the first.

    It is the latest of the chromatogram's edges, and so the earliest moment of generation, at which each of these bands
    has got `kept` of all that it gains.

    Parameters
    ----------
    chromatogram : Chromatogram
        Predicted or measured; the result is in its units of time.
    band : int or (height, width)
        A resolution of the chromatogram but the coarsest, else ValueError; 16 for 16x16.
    kept : float
        Share of its gain, in [0, 1], that each coarser band must have.

    Examples
    --------
    >>> from reschrom import Chromatogram, Schedule, switch_time
    >>> paper = Chromatogram.predicted(Schedule.cosine(), size=64)
    >>> round(switch_time(paper, band=64, kept=0.9), 3)
    0.369
    """
    name, names = band_names(band)[0], chromatogram.band_names
    if name not in names[:-1]:
        raise ValueError(f"the band must be one of {', '.join(names[:-1])}; got {name}")
    real_number("kept", kept, 0, 1)
    coarser = chromatogram.gained_share[names.index(name) + 1 :]
    return float(chromatogram.edges[np.all(coarser <= 1 - kept, axis=0)].max())


def kept_until(chromatogram: Chromatogram, band: Size, kept: float = 0.95) -> float:
    """Return the time from which another prompt may guide, so that `band` and all coarser ones keep the first.

    It is the `switch_time` of the next finer band, so that the finest band raises ValueError: then nothing is left.
    """
    name, names = band_names(band)[0], chromatogram.band_names
    if name not in names[1:]:
        raise ValueError(
            f"the finest band that keeps the first prompt must be one of {', '.join(names[1:])}; got {name}"
        )
    height, _, width = names[names.index(name) - 1].partition("x")
    return switch_time(chromatogram, size_of(int(height), int(width)), kept)


def check_clock(chromatogram: Chromatogram, schedule: Schedule) -> None:
    """Refuse a chromatogram whose times are not those of the schedule."""
    first, last = chromatogram.edges[[0, -1]]
    start, end = schedule.start, schedule.end
    if min(last, end) - max(first, start) < _SEEN * (end - start) or max(start - first, last - end) > _BEYOND * (
        end - start
    ):
        raise ValueError(
            f"a chromatogram in the units of the schedule is needed, whose times run from {start:g} to {end:g}; "
            f"got one from {first:g} to {last:g}"
        )


def fraction(name: str, value: float) -> None:
    """Raise ValueError for a value outside [0, 1]."""
    if not 0 <= one_number(name, value) <= 1:
        raise ValueError(f"{name} is a fraction of the last time and lies in [0, 1]; got {value:g}")


def _line(what: str, values: Any) -> np.ndarray:
    """Return numbers along one axis, after checking that they are finite."""
    values = numpy_array(values)
    if values.ndim != 1:
        raise ValueError(f"{what} have one axis; got the shape {values.shape}")
    finite(what, values)
    return values


def _products(these: Images, those: Images) -> Float[np.ndarray, "2 images bands"]:
    """Return the inner products of images in every band, and the squared norms of the second ones."""
    pairs = zip(*(bands(np.asarray(each, dtype=np.float64)) for each in (these, those)), strict=True)
    products = []
    for m, (a, b) in enumerate(pairs):
        pixels = cell_pixels(these.shape[-2:], m)
        products.append((np.sum(pixels * a * b, axis=(1, 2, 3)), np.sum(pixels * b * b, axis=(1, 2, 3))))
    return np.stack(products, axis=-1)


def _varies(norm: np.ndarray) -> np.ndarray:
    """Tell in which bands there is more than what rounding leaves of the others."""
    energies = norm.sum(axis=0)
    return energies > _ROUNDING * energies.sum()


def _ratio(inner: np.ndarray, norm: np.ndarray, seed: int) -> BandShare:
    mean = StreamingMean(seed)
    mean.add(np.stack([inner, norm], axis=1), 0)
    return BandShare(mean.mean[0] / mean.mean[1], mean.replicates[:, 0] / mean.replicates[:, 1], mean.count)
