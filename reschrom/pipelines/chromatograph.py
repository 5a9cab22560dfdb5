"""The chromatograph: which resolution any diffusers pipeline generates at each step, measured while it runs."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom.denoisers.losses import never_rising
from reschrom.pipelines.adapter import denoiser_of, estimate_and_noise, estimate_precision
from reschrom.pipelines.steps import Step, StepReader
from reschrom.theory.bands import band_energies
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.schedules import Schedule, is_flow

# Every step records these energies, in this order; the last only with guidance.
_SIGNAL, _CHANGE, _GUIDANCE = range(3)


class Record(NamedTuple):
    """What one step of a run worked with, float32, shapes (images, C, S, S); guidance is None when it was off."""

    timestep: float
    x_t: Float[np.ndarray, "images channels side side"]
    estimate: Float[np.ndarray, "images channels side side"]
    guidance: Float[np.ndarray, "images channels side side"] | None


class Chromatograph:
    """Measure what a diffusers pipeline generates, by resolution, in every run of a `with` block: Eqs. (5) and (19).

    It listens to the denoiser through a forward hook and changes nothing. Guidance is found in the data: a batch of two
    equal halves with different conditions (the second is the conditional one), or two calls with the same input (the
    first is). Estimates of x_0 are those of the conditional prediction, clipped where the scheduler clips its own
    (`clip_sample`).

    Parameters
    ----------
    pipeline : diffusers pipeline
        With a `unet` or `transformer` that predicts noise, image, velocity or flow, and a scheduler whose alpha is
        known (`Schedule.from_diffusers`). Images, or latents, are square with a power of two as side.
    keep : {None, "bands"}
        None keeps only means over images; "bands" keeps all images of all steps too, in `kept`.
    decoded : bool
        Of a latent model measure the decoded images instead of the latents.
    seed : int
        Of the bootstrap over images.

    Raises
    ------
    TypeError
        For what is no pipeline, and for a scheduler whose alpha is unknown.
    ValueError
        For images that are not square with a power of two as side, and runs of other timesteps or sizes in one block.

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

    def __init__(self, pipeline: Any, *, keep: str | None = None, decoded: bool = False, seed: int = 0) -> None:
        denoiser, scheduler = denoiser_of(pipeline), pipeline.scheduler
        if keep not in (None, "bands"):
            raise ValueError(f'keep must be None or "bands"; got {keep!r}')
        if decoded and getattr(pipeline, "vae", None) is None:
            raise ValueError(f"only a latent model, with a `vae`, is decoded; {type(pipeline).__name__} has none")
        self._kept: list[Record] = []
        self._pipeline, self._denoiser = pipeline, denoiser
        self._keep, self._decoded = keep, decoded
        self._schedule = Schedule.from_diffusers(scheduler)
        self._prediction = (
            "flow_prediction" if is_flow(scheduler, scheduler.config) else scheduler.config.prediction_type
        )
        clips = scheduler.config.get("clip_sample", False)
        self._furthest = scheduler.config.get("clip_sample_range", 1.0) if clips else math.inf
        self._hook: Any = None
        self._energies = StreamingMean(seed)
        self._side = 0
        self._grid: list[float] = []
        self._images = 0
        # The run in progress: what is known of its steps, and the estimate of the last one.
        self._estimate: Any = None
        self._run: list[tuple[float, Float[np.ndarray, "images quantities bands"], Record | None]] = []
        self._reader = StepReader(pipeline, denoiser)

    def __enter__(self) -> "Chromatograph":
        """Start to listen."""
        self._hook = self._denoiser.register_forward_hook(self._listen, with_kwargs=True)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Stop listening; a run that failed is forgotten."""
        self._hook.remove()
        if error is None:
            self._finish()
        self._reader.forget()
        self._run, self._estimate = [], None

    @property
    def kept(self) -> list[Record]:
        """Every step of every run, in the order of generation; empty unless `keep="bands"` asked for them."""
        self._finish()
        return self._kept

    @property
    def images(self) -> int:
        """The number of images generated so far."""
        self._finish()
        return self._images

    @property
    def timesteps(self) -> Float[np.ndarray, " steps"]:
        """The timesteps of the scheduler at which the denoiser was called, from noise to image, each once."""
        self._finish()
        if not self._images:
            raise ValueError("nothing was measured: no image was generated inside the block")
        return np.array(self._grid)

    @property
    def chromatogram(self) -> Chromatogram:
        """The energy of guidance when guidance was on, otherwise the growth of the estimate."""
        return self.guidance if self._guided else self.growth

    @property
    def guidance(self) -> Chromatogram:
        """The energy of each band of the guidance term, mean over images, around every timestep: Eq. (19).

        The guidance term is the conditional noise prediction minus the unconditional one; decoded, it is the decoded
        conditional estimate minus the decoded unconditional one.
        """
        times = self.timesteps[::-1]
        if not self._guided:
            raise ValueError("guidance was off: the denoiser never made a conditional and an unconditional prediction")
        start, end = self._schedule.start, self._schedule.end
        edges = np.array([start, end])
        if len(times) > 1:
            # A cell reaches half way to the next timestep, the first and the last as far on their other side.
            around = np.concatenate([[2 * times[0] - times[1]], times, [2 * times[-1] - times[-2]]])
            edges = np.clip((around[1:] + around[:-1]) / 2, start, end)
        energies, replicates = self._of(_GUIDANCE)
        return Chromatogram(energies, edges, self._side, "guidance", replicates)

    @property
    def growth(self) -> Chromatogram:
        """The generation rate: growth of the band energy of E[x_0 | x_t] between timesteps, mean over images.

        It needs no guidance. The energy of an exact estimate never falls during generation. Where the measured one
        does, the nearest energies that do not are taken: by least squares, with the weight 1 / (1 + s^2)^2 at a
        timestep where an error e of the network makes an error s e of the estimate.
        """
        times = self._steps()
        precision = estimate_precision(self._schedule.alpha(times), self._prediction)
        signal, replicates = (never_rising(energies, precision) for energies in self._of(_SIGNAL))
        return Chromatogram.from_signal(signal, times, self._side, "growth", replicates)

    @property
    def changes(self) -> Chromatogram:
        """The energy of each band of the change of E[x_0 | x_t] between timesteps, mean over images (Paper Fig. 1)."""
        times = self._steps()
        energies, replicates = (each[..., :-1] for each in self._of(_CHANGE))
        return Chromatogram(energies, times, self._side, "squared change", replicates)

    def _steps(self) -> Float[np.ndarray, " steps"]:
        times = self.timesteps[::-1]
        if len(times) < 2:
            raise ValueError(f"growth and change need two or more timesteps; got {len(times)}")
        return times

    @property
    def _guided(self) -> bool:
        return len(self.timesteps) > 0 and len(self._energies.mean) > _GUIDANCE

    def _of(self, quantity: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean energies (bands, steps), from image to noise, and their replicates."""
        return self._energies.mean[quantity, :, ::-1], self._energies.replicates[:, quantity, :, ::-1]

    def _listen(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        step, begins = self._reader.read(args, kwargs, output)
        if step is not None:
            self._measure(step)
        if begins:
            self._add_run()

    def _measure(self, step: Step) -> None:
        """Measure one step, and forget its images but for the estimate."""
        import torch

        alpha = float(self._schedule.alpha(step.timestep))
        guidance = None
        with torch.no_grad():  # the last step of a run is measured after it
            estimate, noise = estimate_and_noise(step.conditional, step.x_t, alpha, self._prediction)
            estimate = self._as_measured(estimate)
            if step.unconditional is not None:
                other, other_noise = estimate_and_noise(step.unconditional, step.x_t, alpha, self._prediction)
                guidance = estimate - self._as_measured(other) if self._decoded else noise - other_noise
            change = estimate - (estimate if self._estimate is None else self._estimate)
            measured = [estimate, change] if guidance is None else [estimate, change, guidance]
            energies = np.stack([band_energies(each).double().cpu().numpy().T for each in measured], axis=1)
        if self._run and self._run[0][1].shape != energies.shape:
            raise ValueError("guidance, or the number of images, changed in the middle of a run")
        record = None
        if self._keep:
            term = None if guidance is None else _plain(guidance)
            record = Record(step.timestep, _plain(step.x_t), _plain(estimate), term)
        self._run.append((step.timestep, energies, record))
        self._estimate, self._side = estimate, estimate.shape[-1]

    def _finish(self) -> None:
        """Measure the last step of the run in progress, if any, and add the run to the means."""
        step = self._reader.end()
        if step is not None:
            self._measure(step)
        self._add_run()

    def _add_run(self) -> None:
        if not self._run:
            return
        grid = [timestep for timestep, _, _ in self._run]
        energies = np.stack([energies for _, energies, _ in self._run], axis=-1)
        records = [record for _, _, record in self._run if record]
        self._run, self._estimate = [], None
        if self._images and (grid != self._grid or energies.shape[1:] != self._energies.mean.shape):
            raise ValueError(
                "all runs inside one block must have the same timesteps, the same guidance and the same size; got "
                f"{len(grid)} timesteps from {grid[0]:g} to {grid[-1]:g} after {len(self._grid)} from "
                f"{self._grid[0]:g} to {self._grid[-1]:g}"
            )
        self._energies.add(energies, self._images)
        self._kept += records
        self._grid = grid
        self._images += len(energies)

    def _as_measured(self, estimate: Any) -> Any:
        """Return an estimate as it is measured: as far as the scheduler lets it reach, decoded if so asked."""
        estimate = estimate.clip(-self._furthest, self._furthest)
        if not self._decoded:
            return estimate
        vae = self._pipeline.vae
        latents = estimate / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float()


def _plain(images: Any) -> np.ndarray:
    return images.float().cpu().numpy()
