"""The chromatograph: which resolution any diffusers pipeline generates at each step, measured while it runs."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom.pipelines.scheduler import mixture_of, prediction_of, reach_of, response
from reschrom.pipelines.steps import Step, StepReader
from reschrom.theory.bands import band_energies, size_of
from reschrom.theory.chromatogram import Chromatogram, Source
from reschrom.theory.intervals import StreamingMean

# Every step records these energies, in this order; that of guidance is NaN where guidance was off.
_SIGNAL, _CHANGE, _GUIDANCE = range(3)


class Record(NamedTuple):
    """What one step of a run worked with, float32, shapes (images, C, S, S); guidance is None when it was off."""

    timestep: float
    x_t: Float[np.ndarray, "images channels side side"]
    estimate: Float[np.ndarray, "images channels side side"]
    guidance: Float[np.ndarray, "images channels side side"] | None


class Chromatograph:
    """Measure what a diffusers pipeline generates, by resolution, in every run of a `with` block: Eqs. (5) and (19).

    It listens to the denoiser and to the scheduler's `step`, and changes nothing. What the scheduler is given tells
    the rest: which image is stepped, how noised it is, and which combination of the denoiser's predictions was wanted.
    The coefficients of this combination name the branches of guidance, in whatever order they come. Estimates of x_0
    are those of the conditional prediction, clipped where the scheduler clips its own (`clip_sample`). What cannot be
    read for sure is refused; the page "Pipelines" lists what was tried.

    Parameters
    ----------
    pipeline : diffusers pipeline
        Of images or videos, in pixels, latents or tokens of any size: with a denoiser, and a scheduler whose
        signal-to-noise ratio is known (`Schedule.from_diffusers`). Of a video the bands are those of its frames.
    keep : {None, "bands"}
        None keeps only means over images; "bands" keeps all images of all steps too, in `kept`.
    decoded : bool
        Of a latent model measure the decoded images instead of the latents.
    seed : int
        Of the bootstrap over images.
    guidance : sequence of str, optional
        The branch of each prediction of an image, in their order, where the pipeline adds them up so that its
        coefficients do not tell: "conditional", "unconditional", "image-conditional" or "perturbed".
    first_image : int
        The number of the first image, where others are measured elsewhere and merged (`Chromatogram.merge`).
    watch : callable, optional
        Given the `Record` of every step as soon as it is measured.

    Raises
    ------
    TypeError
        For what is no pipeline, and for a scheduler whose signal-to-noise ratio is unknown.
    ValueError
        For what cannot be read as steps of images, and runs of other timesteps or sizes in one block.

    Examples
    --------
    >>> import torch
    >>> from reschrom import Chromatograph, load_pipeline
    >>> pipeline = load_pipeline("data/models/pocket-lowres-16")
    >>> with Chromatograph(pipeline) as meter:
    ...     output = pipeline(batch_size=4, num_inference_steps=10, generator=torch.Generator().manual_seed(0))
    >>> meter.chromatogram.shares.shape, meter.timesteps.tolist()[:3]
    ((5, 9), [900.0, 800.0, 700.0])
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        keep: str | None = None,
        decoded: bool = False,
        seed: int = 0,
        guidance: Sequence[str] | None = None,
        first_image: int = 0,
        watch: Callable[[Record], None] | None = None,
    ) -> None:
        if keep not in (None, "bands"):
            raise ValueError(f'keep must be None or "bands"; got {keep!r}')
        self._reader = StepReader(pipeline, self._measure, guidance)
        scaled = getattr(getattr(getattr(pipeline, "vae", None), "config", None), "scaling_factor", None)
        if decoded and scaled is None:
            raise ValueError(
                "only a latent model is decoded, whose `vae` has one scaling factor; that of "
                f"{type(pipeline).__name__} has none"
            )
        self._pipeline, self._keep, self._decoded, self._watch = pipeline, keep, decoded, watch
        self._prediction = prediction_of(pipeline.scheduler)
        self._whole = _Runs(StreamingMean(seed), first_image)
        self._run: list[_Moment] = []  # in progress, each time once

    def __enter__(self) -> "Chromatograph":
        """Start to listen."""
        self._reader.open()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Stop listening; a run that failed is forgotten."""
        self._reader.close()
        run, self._run = self._run, []
        if error is None:
            self._reader.check()
            self._whole.add(run)

    @property
    def kept(self) -> list[Record]:
        """Every step of every run, in the order of generation; empty unless `keep="bands"` asked for them."""
        return self._so_far().records

    @property
    def images(self) -> int:
        """The number of images generated so far."""
        return self._so_far().energies.count

    @property
    def timesteps(self) -> Float[np.ndarray, " steps"]:
        """The timesteps of the scheduler at which the sampler took its steps, from noise to image, each once."""
        return np.array(self._measured().grid)

    @property
    def branches(self) -> tuple[str, ...]:
        """The branch of each prediction of an image, in the order of the last run's rows and calls."""
        return self._reader.branches

    @property
    def chromatogram(self) -> Chromatogram:
        """The energy of guidance when guidance was on, otherwise the growth of the estimate."""
        return self.guidance if self._guided else self.growth

    @property
    def guidance(self) -> Chromatogram:
        """The energy of each band of the guidance term, mean over images, around every timestep: Eq. (19).

        The guidance term is the conditional noise prediction minus the unconditional one; decoded, it is the decoded
        conditional estimate minus the decoded unconditional one. It covers the timesteps at which guidance was on.
        """
        runs = self._measured()
        times, energies = runs.times, runs.energies[_GUIDANCE, :, ::-1]
        on = np.isfinite(energies.mean).all(axis=0)
        if not on.any():
            raise ValueError("guidance was off: the denoiser never made a conditional and an unconditional prediction")
        schedule = self._reader.schedule
        edges = np.array([schedule.start, schedule.end])
        if len(times) > 1:
            # A cell reaches half way to the next timestep, the first and the last as far on their other side.
            around = np.concatenate([[2 * times[0] - times[1]], times, [2 * times[-1] - times[-2]]])
            edges = np.clip((around[1:] + around[:-1]) / 2, schedule.start, schedule.end)
        if np.any(np.diff(np.flatnonzero(on)) > 1):
            raise ValueError("guidance was switched off and on again; measure each part by itself")
        first, last = np.flatnonzero(on)[[0, -1]]
        edges, cells = edges[first : last + 2], slice(first, last + 1)
        # In pure noise no two predictions of the noise differ, so that cell counts as it does in its middle.
        middle = schedule.alpha((edges[1:] + edges[:-1]) / 2)
        to_noise = np.array(runs.to_noise[::-1])[cells]
        gain = np.square([here or self._to_noise(alpha) for here, alpha in zip(to_noise, middle, strict=True)])
        source = Source(energies[:, cells].scaled(gain), schedule.alpha(edges))
        return Chromatogram.measured(source, edges, runs.size, "guidance")

    @property
    def growth(self) -> Chromatogram:
        """The generation rate: growth of the band energy of E[x_0 | x_t] between timesteps, mean over images.

        It needs no guidance. The energy of an exact estimate never falls during generation. Where the measured one
        does, the nearest energies that do not are taken: by least squares, with the weight 1 / (1 + s^2)^2 at a
        timestep where an error e of the network makes an error s e of the estimate.
        """
        runs = self._two_or_more()
        precision = 1 / (1 + np.square(runs.reach[::-1])) ** 2
        source = Source(runs.energies[_SIGNAL, :, ::-1], self._reader.schedule.alpha(runs.times), precision)
        return Chromatogram.measured(source, runs.times, runs.size, "growth")

    @property
    def changes(self) -> Chromatogram:
        """The energy of each band of the change of E[x_0 | x_t] between timesteps, mean over images (Paper Fig. 1)."""
        runs = self._two_or_more()
        source = Source(runs.energies[_CHANGE, :, ::-1][:, :-1], self._reader.schedule.alpha(runs.times))
        return Chromatogram.measured(source, runs.times, runs.size, "squared change")

    def _so_far(self) -> "_Runs":
        """Return what was measured, with the run in progress, which goes on unharmed."""
        if not self._run:
            return self._whole
        so_far = copy.deepcopy(self._whole)
        try:
            so_far.add(self._run)
        except ValueError:
            self._run = []  # what is refused is refused once
            raise
        return so_far

    def _measured(self) -> "_Runs":
        runs = self._so_far()
        if not runs.grid:
            raise ValueError("nothing was measured: no image was generated inside the block")
        return runs

    def _two_or_more(self) -> "_Runs":
        runs = self._measured()
        if len(runs.grid) < 2:
            raise ValueError(f"growth and change need two or more timesteps; got {len(runs.grid)}")
        return runs

    @property
    def _guided(self) -> bool:
        runs = self._so_far()
        return bool(runs.grid) and bool(np.isfinite(runs.energies.mean[_GUIDANCE]).any())

    def _to_noise(self, alpha: float) -> float:
        """Return what makes of a difference of predictions one of noises, at a signal power."""
        mixture = mixture_of(alpha, self._prediction)
        change = response(self._prediction, mixture)
        return -mixture.signal / mixture.noise * change.from_prediction / change.divisor

    def _measure(self, step: Step) -> None:
        """Measure one step, and forget its images but for the estimate."""
        import torch

        if step.begins:
            run, self._run = self._run, []
            self._whole.add(run)
        with torch.no_grad():
            estimate, difference, to_noise = self._as_measured(step.estimate), step.difference, step.to_noise
            if difference is not None and self._decoded:
                other = step.estimate - step.to_estimate * difference
                difference, to_noise = estimate - self._as_measured(other), 1.0
            repeats = bool(self._run) and self._run[-1].time == step.time
            before = self._run[-2 if repeats else -1].estimate if len(self._run) > repeats else estimate
            parts = [estimate, estimate - before, *([] if difference is None else [difference])]
            # At once, because what small tensors cost is the number of calls.
            measured = np.split(_energies(torch.cat(parts)), len(parts))
        energies = np.stack(measured if difference is not None else [*measured, measured[0] * math.nan], axis=1)
        if not np.isfinite(energies[:, : _CHANGE + 1]).all():
            raise ValueError(f"the estimate at timestep {step.time:g} is not finite")
        record = None
        if self._keep or self._watch:
            guidance = None if difference is None else _plain(difference * to_noise)
            record = Record(step.time, _plain(step.x_t), _plain(estimate), guidance)
        if record and self._watch:
            self._watch(record)
        if repeats:
            self._run.pop()  # the last evaluation at a time counts
        for past in self._run[:-1]:
            past.estimate = None  # only the last two are needed
        size = tuple(estimate.shape[-2:])
        self._run.append(
            _Moment(step.time, to_noise, step.reach, energies, record if self._keep else None, estimate, size)
        )

    def _as_measured(self, estimate: Any) -> Any:
        """Return an estimate as it is measured: as far as the scheduler lets it reach, decoded if so asked."""
        furthest = reach_of(self._pipeline.scheduler)
        estimate = estimate.clip(-furthest, furthest)
        if not self._decoded:
            return estimate
        vae = self._pipeline.vae
        latents = estimate / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float()


@dataclass
class _Moment:
    """What one step of the run in progress left: band energies, shape (images, quantities, bands), and the estimate."""

    time: float
    to_noise: float
    reach: float
    energies: Float[np.ndarray, "images quantities bands"]
    record: Record | None
    estimate: Any
    size: tuple[int, int]


@dataclass
class _Runs:
    """All runs that ended: their energies, shape (quantities, bands, steps), and what is the same in all of them."""

    energies: StreamingMean
    first_image: int = 0
    grid: list[float] = field(default_factory=list)
    to_noise: list[float] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)
    size: Any = 0
    records: list[Record] = field(default_factory=list)

    @property
    def times(self) -> Float[np.ndarray, " steps"]:
        """From image to noise."""
        return np.array(self.grid[::-1])

    def add(self, run: list[_Moment]) -> None:
        """Count one more run. A run that was broken off, before others went further, is not counted."""
        if not run:
            return
        grid = [moment.time for moment in run]
        energies = np.stack([moment.energies for moment in run], axis=-1)
        size = size_of(*run[0].size)
        if self.grid and len(grid) < len(self.grid) and grid == self.grid[: len(grid)]:
            return
        if self.grid and len(grid) > len(self.grid) and self.grid == grid[: len(self.grid)]:
            self.energies, self.records, self.grid = StreamingMean(self.energies.seed), [], []
        guided = np.isfinite(energies).all(axis=(0, 2))
        if self.grid and (
            grid != self.grid
            or size != self.size
            or energies.shape[1:] != self.energies.mean.shape
            or (guided != np.isfinite(self.energies.mean).all(axis=1)).any()
        ):
            raise ValueError(
                "all runs inside one block must have the same timesteps, the same guidance and the same size; got "
                f"{len(grid)} timesteps from {grid[0]:g} to {grid[-1]:g} after {len(self.grid)} from "
                f"{self.grid[0]:g} to {self.grid[-1]:g}"
            )
        self.energies.add(energies, self.first_image + self.energies.count)
        self.records += [moment.record for moment in run if moment.record]
        self.grid, self.size = grid, size
        self.to_noise, self.reach = [moment.to_noise for moment in run], [moment.reach for moment in run]


def _energies(images: Any) -> Float[np.ndarray, "images bands"]:
    """Return the band energies of images (N, C, H, W), or of videos (N, F, C, H, W), summed over their frames."""
    energies = band_energies(images).double()
    return (energies.sum(dim=2) if images.ndim == 5 else energies).cpu().numpy().T


def _plain(images: Any) -> np.ndarray:
    return images.float().cpu().numpy()
