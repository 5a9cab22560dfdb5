"""What a run of a pipeline really did, recorded without the package: from the denoiser's forward and the scheduler.

Nothing here is shared with reschrom. What the network's rows are and mean is not found out but stated, by the `Case`.
"""

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch

from zoo.case import Case

# How the `sample` that a scheduler steps is noised, by the class of the scheduler.
EXPLODING = (
    "Euler",
    "EulerAncestral",
    "Heun",
    "LMS",
    "KDPM2",
    "KDPM2Ancestral",
    "EDMEuler",
    "EDMDPMSolverMultistep",
)  # x_0 + sigma noise
SIGMAS = ("DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE", "UniPCMultistep", "DEISMultistep", "SASolver")
TABLE = (
    *("DDPM", "DDIM", "PNDM", "LCM", "TCD", "UnCLIP", "DDIMParallel", "DDPMParallel"),
    *("CogVideoXDDIM", "CogVideoXDPM"),
)
FLOW = ("FlowMatchEuler", "FlowMatchHeun", "FlowMatchLCM")


@dataclass(frozen=True)
class Moment:
    """One step: the network's clock as signal power, and arrays (images, [frames,] C, H, W) in float64.

    x_t: at unit intensity, Eq. (1); divided by sqrt(alpha) + sqrt(1 - alpha) it lies on the straight path of a flow.
    guidance: the noise prediction with the condition minus the one without it; None where there is none.
    spread: the same difference of the outputs, which is not lost where the noise is known.
    midway: whether the sampler looks half way of one of its steps here, at a time of its own.
    weights, apart: of the outputs in what the scheduler is given, and the part of it that is no such sum.
    """

    alpha: float
    x_t: np.ndarray
    estimate: np.ndarray
    clipped: np.ndarray
    guidance: np.ndarray | None
    spread: np.ndarray | None
    weights: dict[str, float]
    apart: float
    midway: bool


@dataclass
class Truth:
    """All steps of a run in order."""

    moments: list[Moment] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many images were stepped."""
        return len(self.moments[0].x_t)

    @property
    def distinct(self) -> list[Moment]:
        """Return the steps of the sampler at distinct times: of those that follow each other at one time the last."""
        moments = [moment for moment in self.moments if not moment.midway]
        following = [*moments[1:], None]
        return [m for m, n in zip(moments, following, strict=True) if n is None or n.alpha != m.alpha]

    @property
    def energies(self) -> np.ndarray:
        """Return the mean energy of each band of guidance, (bands, distinct steps), in the order of generation."""
        return np.stack([band_energies(m.guidance) for m in self.distinct], axis=1)


def alpha_and_state(
    scheduler: Any, index: int, timestep: Any, sample: np.ndarray, first: bool = True
) -> tuple[float, str, np.ndarray]:
    """Return signal power, what the scheduler takes the network for ("flow" or ""), and x_t at unit intensity.

    first: whether a scheduler of second order is not half way through a step.
    """
    name = type(scheduler).__name__.removesuffix("Scheduler").removesuffix("Discrete")
    config = scheduler.config
    if name in TABLE:
        table = np.asarray(
            scheduler.alphas_cumprod.double()
            if torch.is_tensor(scheduler.alphas_cumprod)
            else scheduler.alphas_cumprod,
            dtype=np.float64,
        )
        return float(table[int(timestep)]), "", sample
    if name == "DDPMWuerstchen":
        ratio = float(timestep.flatten()[0]) if torch.is_tensor(timestep) else float(timestep)
        s = 0.008
        alpha = np.cos((ratio + s) / (1 + s) * np.pi / 2) ** 2 / np.cos(s / (1 + s) * np.pi / 2) ** 2
        return float(np.clip(alpha, 0.0001, 0.9999)), "", sample
    if name == "SCM":  # (cos(t) x_0 + sin(t) noise) sigma_data, told to the network as a flow
        angle = float(timestep.flatten()[0]) if torch.is_tensor(timestep) else float(timestep)
        return np.cos(angle) ** 2, "flow", sample / config.sigma_data
    # The steps half way of DPM2 lie between its sigmas.
    between = name.startswith("KDPM2") and not first
    index -= between and name == "KDPM2Ancestral"  # they stand one place earlier there
    sigma = float((scheduler.sigmas_interpol if between else scheduler.sigmas)[index])
    if config.get("invert_sigmas", False):  # from noise at 0 to the image at 1
        sigma = 1 - sigma
    if name in FLOW and config.get("use_karras_sigmas", False):  # Cosmos steps x_0 + sigma noise, sigma up to 80
        alpha = 1 / (1 + sigma**2)
        return alpha, "", sample * np.sqrt(alpha)
    if name in FLOW or config.get("use_flow_sigmas", False):
        size = np.hypot(1 - sigma, sigma)
        return (1 - sigma) ** 2 / size**2, "flow", sample / size
    alpha = 1 / (1 + sigma**2)
    if name in EXPLODING:
        return alpha, "", sample * np.sqrt(alpha)
    assert name in SIGMAS, name
    return alpha, "", sample


def estimate_of(prediction: str, output: np.ndarray, x_t: np.ndarray, alpha: float, config: Any) -> np.ndarray:
    """Return the estimate of x_0 that an output means at x_t."""
    signal, noise = np.sqrt(alpha), np.sqrt(1 - alpha)
    match prediction:
        case "epsilon":
            return (x_t - noise * output) / signal
        case "sample":
            return output
        case "v_prediction":
            return signal * x_t - noise * output
        case "flow":
            return (x_t - noise * output) / (signal + noise)
        case "edm":  # c_skip x + c_out F of x = x_0 + sigma noise
            sigma, data = noise / signal, float(config.sigma_data)
            return (data**2 * x_t / signal + sigma * data * np.sqrt(sigma**2 + data**2) * output) / (sigma**2 + data**2)
    raise AssertionError(prediction)


def noise_difference(prediction: str, difference: np.ndarray, alpha: float, config: Any) -> np.ndarray:
    """Return the difference of two noise predictions from the difference of two outputs at one x_t."""
    signal, noise = np.sqrt(alpha), np.sqrt(1 - alpha)
    match prediction:
        case "epsilon":
            return difference
        case "sample":
            return -signal / noise * difference
        case "v_prediction":
            return signal * difference
        case "flow":
            return signal / (signal + noise) * difference
        case "edm":
            sigma, data = noise / signal, float(config.sigma_data)
            return -data / np.sqrt(sigma**2 + data**2) * difference
    raise AssertionError(prediction)


def band_energies(images: np.ndarray) -> np.ndarray:
    """Return the energy of each band of 2x2 means, finest first, mean over images, summed over frames and channels.

    Images whose sides do not halve to one pixel on the shorter side are one band: their whole energy.
    """
    x, energies, pixels = np.asarray(images, dtype=np.float64), [], 1
    total = lambda each: float((each**2).sum()) / len(images)  # noqa: E731
    short = min(x.shape[-2:])
    if short & (short - 1) or any(side % short for side in x.shape[-2:]):
        return np.array([total(x)])
    while min(x.shape[-2:]) > 1:
        *lead, h, w = x.shape
        mean = x.reshape(*lead, h // 2, 2, w // 2, 2).mean(axis=(-3, -1))
        energies.append(pixels * total(x) - 4 * pixels * total(mean))
        x, pixels = mean, 4 * pixels
    return np.array([*energies, pixels * total(x)])


def temporal_parts(videos: np.ndarray) -> list[np.ndarray]:
    """Split videos (N, F, C, H, W) into the parts of their temporal bands, finest first, which sum to the videos.

    Cells of frames are joined in pairs, until there is one; of an odd number the larger of the two ends stays alone, or
    the last. A part is the difference of the means of two such levels.
    """

    def mean(cells: list[list[int]]) -> np.ndarray:
        each = [np.broadcast_to(videos[:, cell].mean(axis=1, keepdims=True), videos[:, cell].shape) for cell in cells]
        return np.concatenate(each, axis=1)

    cells, parts = [[frame] for frame in range(videos.shape[1])], []
    fine = mean(cells)
    while len(cells) > 1:
        alone = len(cells) % 2 == 1 and len(cells[0]) > len(cells[-1])
        pairs = cells[alone:]
        cells = cells[:alone] + [[*chain(*pairs[i : i + 2])] for i in range(0, len(pairs), 2)]
        coarse = mean(cells)
        parts.append(fine - coarse)
        fine = coarse
    return [*parts, fine]


@contextmanager
def recorded(pipeline: Any, case: Case, size: tuple[int, int]) -> Iterator[Truth]:
    """Record what a pipeline does inside a block; `size`: pixels of the picture."""
    truth, since = Truth(), []
    if case.refused:
        yield truth
        return
    with ExitStack() as stack:
        for name in case.networks:
            network = _named(pipeline, name)

            @functools.wraps(network.forward)  # pipelines ask for the signature
            def forward(*args: Any, _original: Any = network.forward, **kwargs: Any) -> Any:
                output = _original(*args, **kwargs)
                if case.output is not None:
                    tensor = case.output(output)
                elif isinstance(output, torch.Tensor):
                    tensor = output
                else:
                    tensor = output[0] if isinstance(output, tuple) else next(iter(output.values()))
                since.append(tensor.detach().double().numpy().copy())
                return output

            network.forward = forward
            stack.callback(network.__dict__.pop, "forward")
        scheduler, original = pipeline.scheduler, pipeline.scheduler.step

        signature = inspect.signature(original)

        @functools.wraps(original)
        def step(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            timestep = given["timestep"]
            combined, seen = (given[name].detach().double().numpy().copy() for name in ("model_output", "sample"))
            first = getattr(scheduler, "state_in_first_order", True)
            result = original(*args, **kwargs)
            index = getattr(scheduler, "step_index", None)
            truth.moments.append(
                _moment(case, size, scheduler, (index or 1) - 1, timestep, seen, combined, list(since), first)
            )
            since.clear()
            return result

        scheduler.step = step
        stack.callback(scheduler.__dict__.pop, "step")
        yield truth


def _named(pipeline: Any, name: str) -> Any:
    for part in name.split("."):
        pipeline = getattr(pipeline, part)
    return pipeline


def _moment(
    case: Case,
    size: Any,
    scheduler: Any,
    index: int,
    timestep: Any,
    sample: np.ndarray,
    combined: np.ndarray,
    outputs: list[np.ndarray],
    first: bool,
) -> Moment:
    if case.doubled and len(outputs[0]) == len(sample) > 1 and np.array_equal(*np.split(sample, 2)):
        sample, combined = (each[: len(each) // 2] for each in (sample, combined))
    if case.folded:
        frames = outputs[0].shape[2]
        sample, combined = (np.moveaxis(each.reshape(-1, frames, *each.shape[1:]), 1, 2) for each in (sample, combined))
    alpha, usual, x_t = alpha_and_state(scheduler, index, timestep, _arranged(case, size, sample), first)
    rows = _branches(case, outputs, len(sample))
    rows = {name: case.sign * _arranged(case, size, each, sample.shape) for name, each in rows.items()}
    weights, apart = _weights(rows, _arranged(case, size, combined, sample.shape))
    config = scheduler.config
    prediction = case.prediction or usual or config.prediction_type
    conditional = rows["conditional"]
    estimate = estimate_of(prediction, conditional, x_t, alpha, config)
    clips = config.get("clip_sample") and not type(scheduler).__name__.startswith(("CogVideoX", "TCD"))
    reach = config.get("clip_sample_range", 1.0) if clips else np.inf
    reference = rows.get("image", rows.get("unconditional"))
    midway = not first and type(scheduler).__name__.startswith("KDPM2")
    guidance = spread = None
    if reference is not None:
        spread = conditional - reference
        guidance = noise_difference(prediction, spread, alpha, config)
    return Moment(alpha, x_t, estimate, estimate.clip(-reach, reach), guidance, spread, weights, apart, midway)


def _weights(rows: dict[str, np.ndarray], combined: np.ndarray) -> tuple[dict[str, float], float]:
    columns = np.stack([row.ravel() for row in rows.values()], axis=1)
    weights = np.linalg.lstsq(columns, combined.ravel(), rcond=None)[0]
    apart = np.linalg.norm(columns @ weights - combined.ravel()) / np.linalg.norm(combined)
    return dict(zip(rows, map(float, weights), strict=True)), float(apart)


def _branches(case: Case, outputs: list[np.ndarray], images: int) -> dict[str, np.ndarray]:
    """Name the predictions of one step, which are calls of their own or rows of one batch."""
    assert case.together or all(len(output) == images for output in outputs)
    rows = [row for output in outputs for row in np.split(output, len(output) // images)]
    for names in (case.branches, case.unguided, case.at_times):
        if len(names) == len(rows):
            return dict(zip(names, rows, strict=True))
    raise AssertionError(f"{len(rows)} predictions, which are neither {case.branches} nor {case.unguided}")


def _arranged(case: Case, size: Any, values: np.ndarray, like: tuple[int, ...] | None = None) -> np.ndarray:
    """Return (N, [F,] C, H, W); `like`: the shape of the stepped sample, which has fewer tokens, frames or channels."""
    if case.unpack is not None and values.ndim == 3:
        tokens = like[1] if like and len(like) == 3 else values.shape[1]
        values = values[:, -tokens:] if case.last_tokens else values[:, :tokens]
        values = case.unpack(torch.from_numpy(values), *size).numpy()
    elif case.channels_last:
        return np.moveaxis(values, -1, 2)
    elif values.ndim == 5 and not case.frames_first:
        values = np.moveaxis(values, 2, 1)
    if like and len(like) > 3:
        frames, channels = (like[1], like[2]) if case.frames_first else (like[2], like[1])
        if len(like) == 5:
            values = values[:, -frames:]  # a frame that is given stands before
        else:
            channels = like[1]
        values = values[..., :channels, :, :]  # a learned variance stands behind
    return values


def pooled(x):
    """Average 2x2 pixels."""
    count, channels, height, width = x.shape
    return x.reshape(count, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))


def enlarged(x):
    """Repeat each pixel 2x2 times."""
    return np.kron(x, np.ones((1, 1, 2, 2)))
