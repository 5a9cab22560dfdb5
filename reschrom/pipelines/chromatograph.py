"""The chromatograph: which resolution any diffusers pipeline generates at each step, measured while it runs."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom._arrays import whole_number
from reschrom.pipelines.runs import CHANGE, GUIDANCE, SIGNAL, Moment, Record, Runs, energies_of
from reschrom.pipelines.scheduler import mixture_of, prediction_of, reach_of, response
from reschrom.pipelines.steps import Step, StepReader
from reschrom.theory.bands import band_names, size_of
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.matching import matched_alpha
from reschrom.theory.source import Source


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
        signal-to-noise ratio is known (`Schedule.from_diffusers`). Of a video the bands are those of its frames, and
        `temporal` gives those along time.
    keep : {None, "bands"}
        None keeps only means over images; "bands" keeps all images of all steps too, in `kept`.
    decoded : bool
        Of a latent model of images measure the decoded images instead of the latents.
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
        first_image = whole_number("the number of the first image", first_image)
        self._whole = Runs(StreamingMean(seed), first_image)
        self._run: list[Moment] = []  # in progress, each time once

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
        return self._guidance_of(self._measured().spatial)

    @property
    def growth(self) -> Chromatogram:
        """The generation rate: growth of the band energy of E[x_0 | x_t] between timesteps, mean over images.

        It needs no guidance. The energy of an exact estimate never falls during generation. Where the measured one
        does, the nearest energies that do not are taken: by least squares, with the weight 1 / (1 + s^2)^2 at a
        timestep where an error e of the network makes an error s e of the estimate.
        """
        return self._growth_of(self._measured().spatial)

    @property
    def changes(self) -> Chromatogram:
        """The energy of each band of the change of E[x_0 | x_t] between timesteps, mean over images (Paper Fig. 1)."""
        return self._changes_of(self._measured().spatial)

    def temporal(self, quantity: str | None = None, resolution: str | None = None) -> Chromatogram:
        """Return the same of videos by their temporal bands: "5 frames" is the change from frame to frame.

        They halve the frames of a video, in its latents if it has these, as resolutions halve its pixels: "3 frames"
        is the change between the means of neighbouring frames, and "1 frame" the mean of all. The energies of all
        temporal bands sum to those of all resolutions.

        Parameters
        ----------
        quantity : {"guidance", "growth", "changes"}, optional
            What is measured; that of `chromatogram` unless given.
        resolution : str, optional
            One band of `chromatogram`, such as "8x8", to tell apart the frames of this part of the videos alone.

        Raises
        ------
        ValueError
            For images, and for another quantity or resolution.
        """
        of = {"guidance": self._guidance_of, "growth": self._growth_of, "changes": self._changes_of}
        if quantity is None:
            quantity = "guidance" if self._guided else "growth"
        if quantity not in [*of]:
            raise ValueError(f"the quantity of temporal bands is guidance, growth or changes; got {quantity!r}")
        runs = self._measured()
        if runs.frames is None:
            raise ValueError(f"only videos have temporal bands; {type(self._pipeline).__name__} makes images")
        chromatogram = of[quantity](runs.temporal(resolution))
        if resolution is None:
            return chromatogram
        # What theory expects of means of 4^m pixels, it expects at the signal power that these have, Eq. (16).
        assert chromatogram.source is not None
        alphas = matched_alpha(chromatogram.source.alphas, band_names(runs.size).index(resolution))
        source = replace(chromatogram.source, alphas=alphas)
        return replace(chromatogram, name=f"{chromatogram.name} of {resolution}", source=source)

    def _guidance_of(self, runs: Runs) -> Chromatogram:
        times, energies = runs.times, runs.energies[GUIDANCE, :, ::-1]
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
        # Of temporal bands half the energies are nats too, but not by resolution.
        in_nats = not self._decoded and runs.frames is None
        source = Source(energies[:, cells].scaled(gain), schedule.alpha(edges), guidance=in_nats)
        return Chromatogram.measured(source, edges, runs.size, "guidance", frames=runs.frames)

    def _growth_of(self, runs: Runs) -> Chromatogram:
        _two_or_more(runs)
        precision = 1 / (1 + np.square(runs.reach[::-1])) ** 2
        source = Source(runs.energies[SIGNAL, :, ::-1], self._reader.schedule.alpha(runs.times), precision)
        return Chromatogram.measured(source, runs.times, runs.size, "growth", frames=runs.frames)

    def _changes_of(self, runs: Runs) -> Chromatogram:
        _two_or_more(runs)
        source = Source(runs.energies[CHANGE, :, ::-1][:, :-1], self._reader.schedule.alpha(runs.times))
        return Chromatogram.measured(source, runs.times, runs.size, "squared change", frames=runs.frames)

    def _so_far(self) -> Runs:
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

    def _measured(self) -> Runs:
        runs = self._so_far()
        if not runs.grid:
            raise ValueError("nothing was measured: no image was generated inside the block")
        return runs

    @property
    def _guided(self) -> bool:
        runs = self._so_far()
        return bool(runs.grid) and bool(np.isfinite(runs.energies.mean[GUIDANCE]).any())

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
            unguided = None
            if difference is not None and (self._decoded or self._keep or self._watch):
                unguided = self._as_measured(step.estimate - step.to_estimate * difference)
            if unguided is not None and self._decoded:
                difference, to_noise = estimate - unguided, 1.0
            repeats = bool(self._run) and self._run[-1].time == step.time
            before = self._run[-2 if repeats else -1].estimate if len(self._run) > repeats else estimate
            parts = [estimate, estimate - before, *([] if difference is None else [difference])]
            # At once, because what small tensors cost is the number of calls.
            measured = np.split(energies_of(torch.cat(parts)), len(parts))
        energies = np.stack(measured if difference is not None else [*measured, measured[0] * math.nan], axis=1)
        if not np.isfinite(energies[:, : CHANGE + 1]).all():
            raise ValueError(f"the estimate at timestep {step.time:g} is not finite")
        record = None
        if self._keep or self._watch:
            guidance = None if difference is None else _plain(difference * to_noise)
            other = None if unguided is None else _plain(unguided)
            record = Record(step.time, _plain(step.x_t), _plain(estimate), guidance, other)
        if record and self._watch:
            self._watch(record)
        if repeats:
            self._run.pop()  # the last evaluation at a time counts
        for past in self._run[:-1]:
            past.estimate = None  # only the last two are needed
        size, frames = size_of(*estimate.shape[-2:]), estimate.shape[1] if estimate.ndim == 5 else None
        self._run.append(
            Moment(
                step.time,
                step.ends,
                to_noise,
                step.reach,
                energies,
                record if self._keep else None,
                estimate,
                size,
                frames,
            )
        )

    def _as_measured(self, estimate: Any) -> Any:
        """Return an estimate as it is measured: as far as the scheduler lets it reach, decoded if so asked."""
        furthest = reach_of(self._pipeline.scheduler)
        estimate = estimate.clip(-furthest, furthest)
        if not self._decoded:
            return estimate
        if estimate.ndim == 5:
            raise ValueError(
                f"only images are decoded, not the videos of {type(self._pipeline).__name__}; leave out decoded"
            )
        vae = self._pipeline.vae
        latents = estimate / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float()


def _two_or_more(runs: Runs) -> None:
    if len(runs.grid) < 2:
        raise ValueError(f"growth and change need two or more timesteps; got {len(runs.grid)}")


def _plain(images: Any) -> np.ndarray:
    return images.float().cpu().numpy()
