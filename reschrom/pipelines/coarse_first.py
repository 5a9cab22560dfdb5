"""Fewer pixels while detail holds no signal: a network sees a pooled image until a turning point (Eqs. 16, 22, 24).

Early in generation the fine bands are noise. Their part of the prediction is then known in closed form, and the rest
is the prediction for the pooled image, at its own intensity and time. Nothing is trained, and the pipeline, its
guidance and its scheduler stay as they are.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, one_signal_power, real_number, told, whole_number
from reschrom.denoisers.stationary import StationaryField, handover
from reschrom.pipelines.adapter import claimed, estimate_and_noise, forward_signature, replaced_method
from reschrom.pipelines.asked import Visit, is_ancestral, known_kind, network_of, visits
from reschrom.pipelines.pooling import Pooling, pooling
from reschrom.pipelines.scheduler import Mixture, as_number, schedule_of, time_of, upcoming
from reschrom.theory.bands import band_names, bands, depth, from_bands, upsample
from reschrom.theory.chromatography import powers_and_weights
from reschrom.theory.matching import intensity_scale, matched_alpha
from reschrom.theory.spectrum import MeasuredSpectrum, Spectrum, loaded, variances

# How far half precision rounds a timestep, of its size.
_HALF = 2.0**-8
# Flows round the time that they tell; a network told farther off, of the whole, has a time of its own.
_ASIDE = 0.01
# Between which odds of a Wiener gain the turning points are sought, as logarithms, and in how many halvings.
_GAINS, _ROUNDS = (-16.0, 2.0), 9


def coarse_noise(
    predict: Callable[[Array, float], Array],
    x_t: Num[Array, "*batch channels height width"],
    alpha: float,
    level: int,
    spectrum: Sequence[Number] | Float[np.ndarray, " bands"],
) -> Float[Array, "*batch channels height width"]:
    """Return a noise prediction of which only the coarse part asks a network: Eq. (24) with a Gaussian residual.

    `2^-m U^m[eps(lambda D^m x_t, tau)] + sum_(j<m) U^j[b_j(x_t)] sqrt(1 - alpha) / (alpha S_j + 1 - alpha)`. Exact for
    a Gaussian field whose bands are independent and white, such as `GaussianField`.

    predict: the noise in images of low resolution, given a signal power.
    x_t: noised images, shape (..., C, H, W), sides multiples of `2^level`.
    alpha: signal power in [0, 1).
    level: m, how many times the network's image is halved.
    spectrum: variance per coefficient of every band of x_0, finest first; the first `level` are used.
    """
    *details, low = bands(x_t, level)
    noise = predict(float(intensity_scale(alpha, level)) * low, float(matched_alpha(alpha, level)))
    return from_bands([*_detail_noise(details, alpha, spectrum), noise / 2**level])


class Expected(NamedTuple):
    """What a `CoarseFirst` block expects of a run, of every band by name, finest first.

    errors: the change of the band's standard deviation against the plain run, as a share of it, 0 or more.
    deviations: the root-mean-square difference from the plain run from the same noise, as a share of the same.
    pixels: how many the network sees, as a share of the plain run's. So many are its multiply-adds where it is
        convolutional; attention costs less still, and another network `low` has a cost of its own.
    """

    errors: dict[str, float]
    deviations: dict[str, float]
    pixels: float


class CoarseFirst:
    """Let a diffusers pipeline begin with a pooled image, and take its other bands from a formula: `coarse_noise`.

    From noise to the turning point of level m the network is shown `lambda_m D^m[x_t]` at the time tau_m of Eq. (16),
    and the bands that it does not see are predicted as those of a Gaussian field with the given spectrum. After the
    first turning point it is the plain run. Scheduler, guidance and callbacks stay as they are: what a scheduler keeps
    of earlier steps has full size. A learned variance is enlarged with the prediction. tau lies in general between two
    timesteps and is passed as it is; where it would lie before timestep 0, as 0. All other inputs stay the same, but
    for the places of tokens, which are those of the smaller image.

    What is expected is exact for DDIM (or ancestral sampling, where the scheduler draws fresh noise) with exact
    denoisers of a stationary Gaussian field of that spectrum: `handover`. A network would paint detail before the
    turning point already and loses more of it; `band_changes` tells how much from a few images. It should have learned
    images of the smaller size, and from the same noise it draws other images than at full size.

    Parameters
    ----------
    pipeline : diffusers pipeline
        With one `unet` or `transformer`, in pixels or latents, that is shown nothing but the noised image and predicts
        epsilon, sample, v_prediction or flow_prediction.
    spectrum : MeasuredSpectrum, its file, or sequence of float
        Variance per coefficient of every band of what the pipeline generates, finest first, in the units of its
        latents or pixels, as `measure_spectrum` finds it.
    tolerance : float
        The largest expected error of a band. The turning points are the latest in generation for which it holds, each
        where the Wiener gain of the band that appears there is the same.
    turning_points : sequence of float, optional
        Rising times of the scheduler instead: from the m-th on, towards noise, the image is halved m times. Empty for
        the plain run.
    levels : int
        How many times the image is halved at most, where the turning points are chosen.
    low : diffusers pipeline, optional
        Whose network predicts from pooled images instead. It has the same inputs.
    steps : int or sequence of float
        Of the run for which the expectation holds: how many, as `scheduler.set_timesteps` lays them out, or the
        scheduler's times themselves, where a pipeline has a list of its own (Flux).

    Attributes
    ----------
    turning_points : tuple of float
        Rising times of the scheduler; infinite where a level is never used.
    expected : Expected
        Error of every band, and the pixels that remain.

    Raises
    ------
    TypeError
        For pipelines with another network, or with several.
    ValueError
        For numbers out of range, for another prediction, a pipeline with another such block and, when it is called, for
        images of other bands than the spectrum's, sides that do not halve, videos, and further inputs of the image's
        size, such as those of a ControlNet.

    Examples
    --------
    >>> from reschrom import CoarseFirst, load_pipeline
    >>> pipeline = load_pipeline("data/models/pocket-lowres-32")
    >>> spectrum = [0.01, 0.05, 0.25, 1.0, 2.0, 20.0]
    >>> with CoarseFirst(pipeline, spectrum, turning_points=[400], steps=10) as coarse:
    ...     image = pipeline(num_inference_steps=10).images[0]
    >>> image.size, round(coarse.expected.pixels, 2)
    ((32, 32), 0.55)
    """

    def __init__(
        self,
        pipeline: Any,
        spectrum: Spectrum,
        tolerance: Number = 0.02,
        turning_points: Sequence[Number] | None = None,
        levels: int = 1,
        low: Any = None,
        steps: int | Sequence[Number] = 50,
    ) -> None:
        self._denoiser = network_of(pipeline)
        self._pipeline, self._scheduler = pipeline, pipeline.scheduler
        self._low = None if low is None else network_of(low)
        self._low_scheduler = self._scheduler if low is None else low.scheduler
        self._kind, self._low_kind = (known_kind(each) for each in (self._scheduler, self._low_scheduler))
        spectrum = loaded(spectrum)
        count = len(variances(spectrum))
        self._spectrum = np.array(powers_and_weights(count - 1, spectrum)[0])
        self._field = StationaryField.of_spectrum(self._spectrum, channels=1)
        self._names = band_names(spectrum.size if isinstance(spectrum, MeasuredSpectrum) else 2 ** (count - 1))
        run = visits(self._scheduler, steps)
        real_number("tolerance", tolerance, 0)
        if turning_points is None:
            if not 1 <= whole_number("levels", levels) < count:
                raise ValueError(f"levels says how often images are halved at most, 1 to {count - 1}; got {levels}")
            self.turning_points, self.expected = self._within(tolerance, levels, run)
        else:
            self.turning_points = tuple(float(each) for each in turning_points)
            rising = all(a <= b for a, b in itertools.pairwise((-math.inf, *self.turning_points)))
            if len(self.turning_points) >= count or not rising:
                raise ValueError(
                    f"turning points are rising times, fewer than the {count} bands; got {told(turning_points)}"
                )
            self.expected = self._expectation(run)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "CoarseFirst":
        """Begin to show the network pooled images."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(claimed(self._denoiser, "CoarseFirst", around="PromptSchedule"))
            stack.enter_context(replaced_method(self._denoiser, "forward", self._predict))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the network back its own."""
        self._open.close()

    def level(self, time: Number) -> int:
        """Return how many times the image is halved at a time of the scheduler."""
        return sum(time >= point for point in self.turning_points)

    def _predict(self, predict: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._pipeline.scheduler is not self._scheduler:
            raise ValueError("the scheduler was exchanged after CoarseFirst was made: make it anew")
        signature = forward_signature(self._denoiser)
        given = signature.bind(*args, **kwargs).arguments
        (name, shown), *_ = given.items()
        if "timestep" not in given:
            raise ValueError(
                f"CoarseFirst needs a network that is told a `timestep`; this one is told {', '.join(given)}"
            )
        mixture, time = upcoming(self._scheduler, given["timestep"])
        schedule = schedule_of(self._scheduler)
        level = self.level(time_of(schedule, mixture, time))
        if level == 0:
            return predict(*args, **kwargs)
        others = {key: value for key, value in given.items() if key != name}
        pooled = pooling(self._pipeline, self._denoiser, shown, others, level)
        size = pooled.image.shape[-2:]
        if depth(tuple(size)) + 1 != len(self._spectrum):
            raise ValueError(
                f"a spectrum of {depth(tuple(size)) + 1} bands is needed for {size[0]}x{size[1]} pixels or latents; "
                f"got {len(self._spectrum)}"
            )

        def small(x: Any, timestep: Any) -> Any:
            new = {**pooled.told, name: x.to(shown.dtype), "timestep": timestep}
            placed = [new.get(each, value) for each, value in zip(signature.parameters, args, strict=False)]
            network = predict if self._low is None else self._low
            return network(*placed, **{each: new.get(each, value) for each, value in kwargs.items()})

        return self._coarse(small, pooled, given["timestep"], mixture, time, level)

    def _coarse(
        self, small: Callable[..., Any], pooled: Pooling, told: Any, mixture: Mixture, time: float, level: int
    ) -> Any:
        """Return what the network gives, its tensor replaced by the prediction in full size."""
        import torch

        alpha, x = mixture.alpha, _unit(pooled.image, mixture.alpha, self._kind)
        *details, low = bands(x, level)
        low_alpha = float(matched_alpha(alpha, level))
        low = _shown(float(intensity_scale(alpha, level)) * low, low_alpha, self._low_kind)
        if self._kind == "flow_prediction":
            end = schedule_of(self._scheduler).end
            sigma = end * math.sqrt(1 - alpha) / (math.sqrt(alpha) + math.sqrt(1 - alpha))
            if abs(sigma - time) > _ASIDE * end:
                raise ValueError(
                    f"CoarseFirst needs a flow that is told the time of its noise; this one is told {time:g} for "
                    f"{sigma:g}"
                )
        schedule = schedule_of(self._low_scheduler)
        tau = float(schedule.network_time(schedule.time(low_alpha)))
        output = small(pooled.pack(low), _told(told, time, tau, self._scheduler, self._low_scheduler))
        first = output if hasattr(output, "shape") else output[0]
        said = pooled.unpack_small(first)
        channels = low.shape[1]
        if said.shape[1] not in (channels, 2 * channels) or said.shape[2:] != low.shape[2:]:
            raise ValueError(
                f"CoarseFirst needs a network that predicts what it is shown, {tuple(low.shape)}; this one predicts "
                f"{tuple(said.shape)}"
            )
        estimate, noise = estimate_and_noise(said, low, low_alpha, self._low_kind)
        noise = from_bands([*_detail_noise(details, alpha, self._spectrum), noise / 2**level])
        estimate = from_bands([*_detail_estimate(details, alpha, self._spectrum), estimate])
        prediction = _prediction(self._kind, alpha, noise, estimate).to(first.dtype)
        if said.shape[1] > channels:
            prediction = torch.cat([prediction, upsample(said[:, channels:], level)], dim=1)
        return _with(output, pooled.pack_large(prediction))

    def _expectation(self, run: "list[Visit]") -> Expected:
        """Return what is expected of a run with the turning points as they are."""
        levels = [self.level(visit.time) for visit in run]
        fresh = float(is_ancestral(self._scheduler))
        change, deviation = handover(self._field, [visit.alpha for visit in run], levels, fresh)
        errors, deviations = (
            dict(zip(self._names, map(float, each), strict=True)) for each in (np.abs(change), deviation)
        )
        return Expected(errors, deviations, float(np.mean([0.25**level for level in levels])))

    def _within(self, tolerance: float, levels: int, run: "list[Visit]") -> tuple[tuple[float, ...], Expected]:
        """Return the turning points of the largest equal Wiener gain whose expected errors are within a tolerance."""
        schedule, low, high = schedule_of(self._scheduler), *_GAINS
        noisiest = float(schedule.log_snr(schedule.end))
        self.turning_points = (math.inf,) * levels
        best = self.turning_points, self._expectation(run)
        for _ in range(_ROUNDS):
            middle = (low + high) / 2  # of the logarithm of the gain's odds, in which errors rise
            log_snr = middle - np.log(self._spectrum[:levels])
            times = np.asarray(schedule.time_at(np.maximum(log_snr, noisiest)))
            times = np.maximum.accumulate(np.where(log_snr < noisiest, math.inf, times))
            self.turning_points = tuple(map(float, times))
            found = self._expectation(run)
            if max(found.errors.values()) <= tolerance:
                low, best = middle, (self.turning_points, found)
            else:
                high = middle
        return best


def _told(value: Any, time: float, tau: float, scheduler: Any, low_scheduler: Any) -> Any:
    """Return the time tau as a network is told it: as timestep, or as share of the whole."""
    import torch

    said = as_number(value)
    counts = [float(each.config.get("num_train_timesteps") or 1) for each in (scheduler, low_scheduler)]
    if abs(said - time) <= _HALF * max(abs(time), 1.0):
        new = tau
    elif abs(said - time / counts[0]) <= _HALF:
        new = tau / counts[1]
    else:
        raise ValueError(
            f"CoarseFirst needs a network that is told the scheduler's timestep, {time:g}, or its share of the whole; "
            f"this one is told {said:g}"
        )
    if not isinstance(value, torch.Tensor):
        return new
    return torch.full_like(value, new, dtype=value.dtype if value.is_floating_point() else torch.float32)


def _unit(x: Any, alpha: float, kind: str) -> Any:
    """Return what a network is shown at the unit intensity of Eq. (1), in single precision or better."""
    import torch

    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * (math.sqrt(alpha) + math.sqrt(1 - alpha)) if kind == "flow_prediction" else x


def _shown(x: Any, alpha: float, kind: str) -> Any:
    """Return an image of unit intensity as a network is shown it: the inverse of `_unit`."""
    return x / (math.sqrt(alpha) + math.sqrt(1 - alpha)) if kind == "flow_prediction" else x


def _detail_noise(details: list[Array], alpha: float, spectrum: Any) -> list[Array]:
    noise = 1 - one_signal_power(alpha)
    return [math.sqrt(noise) / (alpha * float(s) + noise) * b for s, b in zip(spectrum, details, strict=False)]


def _detail_estimate(details: list[Array], alpha: float, spectrum: Any) -> list[Array]:
    signal = math.sqrt(alpha)
    return [signal * float(s) / (alpha * float(s) + 1 - alpha) * b for s, b in zip(spectrum, details, strict=False)]


def _prediction(kind: str, alpha: float, noise: Any, estimate: Any) -> Any:
    """Return what a network of a kind would have predicted, of its noise and its estimate of x_0."""
    match kind:
        case "epsilon":
            return noise
        case "sample":
            return estimate
        case "v_prediction":
            return math.sqrt(alpha) * noise - math.sqrt(1 - alpha) * estimate
    return noise - estimate


def _with(output: Any, tensor: Any) -> Any:
    """Return what a network gives with another tensor in its first place."""
    if hasattr(output, "shape"):
        return tensor
    if isinstance(output, tuple):
        return (tensor, *output[1:])
    output[next(iter(output.keys()))] = tensor
    return output
