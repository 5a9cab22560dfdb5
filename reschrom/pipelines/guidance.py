"""Guidance where the prompt speaks: how much of it acts, in each resolution and at each time, in any pipeline.

A pipeline gives its scheduler the conditional prediction and what guidance adds to it, (g - 1) (eps_c - eps_u) for a
scale g. What is added is split into orthogonal bands (Eq. 19), and each is weighted:

    eps = eps_c + sum_m w_m(t) b_m(what guidance adds).

Where all weights are 0 nobody needs the unconditional prediction, so it is not made.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import finite, told
from reschrom.pipelines.adapter import claimed, forward_signature, replaced_method
from reschrom.pipelines.branches import thrown_away
from reschrom.pipelines.calls import CallReader
from reschrom.pipelines.geometry import Unpack
from reschrom.pipelines.rows import (
    Call,
    as_batch,
    as_videos,
    conditions_of,
    equal,
    fit_to,
    is_finite,
    lengths_of,
    precise,
    row_of,
)
from reschrom.pipelines.scheduler import TIMES, Mixture, as_number, moment
from reschrom.pipelines.texts import tensors_in
from reschrom.theory.bands import band_names, bands, from_bands
from reschrom.theory.information import GuidanceInterval

# One weight, or one for each band, finest first: always the same, or of t / T, or of the log SNR.
Weights = Callable[[float], Any] | Float[np.ndarray, " bands"] | Sequence[float] | float | GuidanceInterval

# How far a prediction may be from the same one in a larger batch, of its size: rounding in single and half precision.
_ROUNDING = {4: 1e-3, 2: 2e-2}


class GuidanceSchedule:
    """Weigh what guidance adds in a diffusers pipeline, by resolution and time: Eqs. (5) and (19).

    Inside the block the pipeline is called as always. Of what it gives its scheduler, the conditional prediction stays,
    and the bands of what guidance adds to it are multiplied by their weights. So weight 1 is the plain run to the last
    bit, and weight 0 is the conditional prediction alone, as with guidance scale 1. All that a pipeline adds counts as
    guidance: rescaled, of three branches, or perturbed.

    At times when all weights are 0 the unconditional prediction is not made, which saves half of the step. The branches
    are told apart in the first step of every run, so that step makes both. So do all steps of a pipeline that perturbs
    its network, or predicts without the prompt before it predicts with it, in another call. The first time that a batch
    is halved, the whole one is predicted too: only if both agree, the half is trusted afterwards.

    Parameters
    ----------
    pipeline : diffusers pipeline
        With guidance, in one batch or in calls of its own; of pixels, latents, tokens or videos, and any prediction
        that `Chromatograph` reads.
    weights : callable, array or GuidanceInterval
        A function of t / T in [0, 1], 1 for noise; or weights that hold at all times; or what `guidance_interval`
        returns. One weight for all bands, or one for each, finest band first of the image or the latents.

    Attributes
    ----------
    steps, skipped : int
        How often the scheduler stepped with guidance, and in how many of these steps nothing unconditional was made.

    Raises
    ------
    TypeError
        For what is no pipeline, and for a scheduler whose signal-to-noise ratio is unknown.
    ValueError
        For weights that do not fit the bands or are not finite; for a pipeline whose predictions cannot be told apart,
        before its first step; at the end of a block in which guidance was off.

    Examples
    --------
    >>> from reschrom import GuidanceSchedule, load_pipeline
    >>> pipeline = load_pipeline("data/models/pocket-if-64")
    >>> with GuidanceSchedule(pipeline, lambda t: 0.2 < t < 0.8) as schedule:
    ...     image = pipeline("a photo of a pear", num_inference_steps=10, guidance_scale=3.0).images[0]
    >>> image.size, schedule.steps, schedule.skipped
    ((64, 64), 10, 2)
    """

    def __init__(self, pipeline: Any, weights: Weights) -> None:
        self._reader = _Weighing(pipeline, weights)

    def __enter__(self) -> "GuidanceSchedule":
        """Begin to weigh."""
        self._reader.open()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Give the pipeline back its own."""
        self._reader.close()
        if error is None:
            self._reader.check()

    @property
    def steps(self) -> int:
        """How often the scheduler stepped with guidance."""
        return self._reader.guided

    @property
    def skipped(self) -> int:
        """In how many of these steps the unconditional prediction was not made."""
        return self._reader.skipped


class _Told(NamedTuple):
    """What the last whole step told: its calls, the branch of each row, and the arguments in which the rows differ."""

    calls: list[Call]
    names: list[str]
    telling: list[str]


class _Weighing(CallReader):
    """Weigh what the scheduler is given, and keep from the network what would be weighed with 0."""

    def __init__(self, pipeline: Any, weights: Weights) -> None:
        super().__init__(pipeline)
        self._weights: Weights = (
            weights if callable(weights) or isinstance(weights, GuidanceInterval) else _row(weights)
        )
        if callable(self._weights):
            _row(self._weights(1.0))
        self.guided = self.skipped = 0
        self._outputs: list[Any] = []  # of the calls since the last step
        self._told: _Told | None = None
        self._agrees: dict[Any, bool] = {}  # whether rows can be predicted alone, by the shapes of batches
        self._left_out, self._last = False, -np.inf

    def open(self) -> None:
        """Start to weigh."""
        super().open()
        self.guided = self.skipped = 0
        self._told, self._outputs, self._left_out = None, [], False
        try:
            for denoiser in self._denoisers:
                self._open.enter_context(claimed(denoiser, "GuidanceSchedule"))
                self._open.enter_context(replaced_method(denoiser, "forward", self._predicting(denoiser)))
        except ValueError:
            self.close()
            raise

    def check(self) -> None:
        """Raise ValueError where there was nothing to weigh."""
        super().check()
        if self._heard and not self.guided:
            raise ValueError("guidance was off: the denoiser never made a conditional and an unconditional prediction")

    def _at(self, mixture: Mixture, t: float) -> Float[np.ndarray, " bands"]:
        """Return the weights at a moment: one, or one for each band."""
        if isinstance(self._weights, GuidanceInterval):
            return _row(self._weights.weights(mixture.log_snr))
        return _row(self._weights(t) if callable(self._weights) else self._weights)

    def _hear(self, denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        super()._hear(denoiser, args, kwargs, output)
        self._outputs.append(output)

    def _predicting(self, denoiser: Any) -> Callable[..., Any]:
        return functools.partial(self._predict, denoiser, forward_signature(denoiser))

    def _predict(self, denoiser: Any, signature: inspect.Signature, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict, but at a moment of no guidance leave out what is not conditional."""
        call = signature.bind(*args, **kwargs)
        time = next((call.arguments[name] for name in TIMES if name in call.arguments), None)
        if self._told is None or self._begins or time is None or self._pipeline.scheduler is not self._scheduler:
            return original(*args, **kwargs)
        mixture, t = moment(self._scheduler, time)
        if mixture.log_snr < self._last or self._at(mixture, t).any():
            return original(*args, **kwargs)
        if len(self._told.calls) == 1:
            return self._conditional_rows(denoiser, call, original)
        instead = self._conditional_again(denoiser, call.arguments)
        return original(*args, **kwargs) if instead is None else instead

    def _conditional_rows(self, denoiser: Any, call: inspect.BoundArguments, original: Any) -> Any:
        """Predict the conditional rows of a batch alone, and return them in the place of every row."""
        assert self._told is not None
        ([whole], names, _), shown = self._told, as_batch(next(iter(call.arguments.values())))
        batch = (id(denoiser), tuple(shown.shape), *names)
        if "perturbed" in names or shown.shape != whole.shown.shape or not self._agrees.get(batch, True):
            return original(*call.args, **call.kwargs)
        chosen, count, lengths = names.index("conditional"), len(names), lengths_of(whole.predictions)
        alone = inspect.BoundArguments(call.signature, type(call.arguments)())
        alone.arguments.update({name: row_of(value, chosen, count, lengths) for name, value in call.arguments.items()})
        if batch not in self._agrees:
            try:
                part = _batch_in(original(*alone.args, **alone.kwargs))
            except (IndexError, RuntimeError, ValueError):  # a network that cannot be shown fewer rows
                part = None
            output = original(*call.args, **call.kwargs)
            self._agrees[batch] = part is not None and _agree(part, _batch_in(output), chosen, count)
            return output
        output = original(*alone.args, **alone.kwargs)
        self._left_out = True
        return _with(output, as_batch(_predictions(output)).repeat(count, *[1] * (whole.predictions.ndim - 1)))

    def _conditional_again(self, denoiser: Any, given: dict[str, Any]) -> Any | None:
        """Return the conditional prediction in the place of one that is told what the unconditional one was told."""
        assert self._told is not None
        calls, names, telling = self._told
        chosen = names.index("conditional")
        if len(names) != len(calls) or not telling or not self._calls[chosen:]:
            return None

        def again(number: int, denoiser: Any, given: Any) -> bool:
            """Whether a call is told what the call of that number was told."""
            before = calls[number]
            return before.denoiser is denoiser and all(
                _alike(given.get(name), before.arguments.get(name)) for name in telling
            )

        made = self._calls[chosen]
        others = [i for i, name in enumerate(names) if name in ("unconditional", "image-conditional")]
        if not again(chosen, made.denoiser, made.arguments) or not any(again(i, denoiser, given) for i in others):
            return None
        self._left_out = True
        return _with(self._outputs[chosen], made.predictions.clone())

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls, left_out = self._calls, self._left_out
        if not calls or not self._is_own(original):
            return original(*args, **kwargs)
        bound = self._given(args, kwargs)
        given = bound.arguments
        given["model_output"] = self._weighed(calls, given["model_output"], given["sample"], given["timestep"])
        self.skipped += left_out
        self._calls, self._outputs, self._left_out = [], [], False
        self._stepped += 1
        return original(*bound.args, **bound.kwargs)

    def _weighed(self, calls: list[Call], model_output: Any, sample: Any, timestep: Any) -> Any:
        """Return what the scheduler is to be given; the very same where every weight is 1."""
        mixture, t = moment(self._scheduler, timestep)
        if not is_finite(model_output):
            raise ValueError(f"the prediction at timestep {as_number(timestep):g} is not finite")
        if self._begins or mixture.log_snr < self._last:
            self._known, self._told = {}, None
        self._begins, self._last = False, mixture.log_snr
        changed = model_output.clone()
        whole, stepped = (as_videos(calls, each) for each in (changed, sample))
        rows, found, stepped = self._combined(calls, whole, stepped, mixture)
        if thrown_away(found, rows):
            return model_output
        self.guided += len(rows) > 1 or self._left_out
        if len(rows) == 1:
            return model_output
        names = self._names(calls, rows, found, stepped, mixture)
        if found.distinct and not self._left_out:
            self._told = _Told(calls, names, _telling(calls, names, len(stepped)))
        weights = self._at(mixture, t)
        if np.all(weights == 1):
            return model_output
        alone = found.scale * precise(rows[names.index("conditional")])
        if found.image:
            alone = alone + found.image * precise(stepped)
        # A view, so that what stands behind, such as a learned variance, stays.
        guided = fit_to(whole, stepped).unflatten(0, (-1, len(stepped)))  # type: ignore[union-attr]
        added = precise(guided[0]) - alone
        if len(weights) == 1:
            guided.copy_(alone + float(weights[0]) * added)
        else:
            guided.copy_(alone + _by_band(added, weights, self._layout(calls, stepped, mixture)))
        return changed


def _row(weights: Any) -> Float[np.ndarray, " bands"]:
    """Return weights as one row. Raises ValueError for what is none."""
    try:
        row = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"the weights of guidance are numbers; got {told(weights)}") from None
    if row.ndim > 1 or not row.size:
        raise ValueError(f"one weight is needed, or one for each band; got the shape {row.shape}")
    finite("the weights of guidance", row)
    return row.reshape(-1)


def _by_band(x: Any, weights: Float[np.ndarray, " bands"], layout: Unpack) -> Any:
    """Return the sum of the weighted bands of x, in the layout that x has."""
    import torch

    images = layout(x)
    names = band_names(tuple(images.shape[-2:]))
    if len(names) != len(weights):
        raise ValueError(f"{len(names)} weights are needed, for {', '.join(names)}; got {len(weights)}")
    kept = from_bands([float(w) * band for w, band in zip(weights, bands(images), strict=True)])
    places = layout(torch.arange(x[:1].numel(), device=x.device).reshape(x[:1].shape)).flatten()
    packed = torch.empty_like(x).flatten(1)
    packed[:, places] = kept.flatten(1)
    return packed.reshape(x.shape)


def _telling(calls: list[Call], names: list[str], images: int) -> list[str]:
    """Return the arguments in which some row is told something else than the conditional one."""
    arguments = ["", *dict.fromkeys(name for call in calls for name in call.arguments)]
    kinds = conditions_of(calls, images)
    own = kinds[names.index("conditional")]
    return [name for i, name in enumerate(arguments) if name and any(kind[i] != own[i] for kind in kinds)]


def _alike(one: Any, other: Any) -> bool:
    """Whether two arguments hold the same tensors."""
    ours, theirs = list(tensors_in(one)), list(tensors_in(other))
    return len(ours) == len(theirs) and all(map(equal, ours, theirs))


def _predictions(output: Any) -> Any:
    return output if hasattr(output, "shape") else output[0]


def _batch_in(output: Any) -> Any | None:
    """Return what a network predicts as one batch; None where it returns other tensors beside it."""
    others = () if hasattr(output, "shape") else list(output.values())[1:] if isinstance(output, dict) else output[1:]
    return None if next(tensors_in(list(others)), None) is not None else as_batch(_predictions(output))


def _with(output: Any, predictions: Any) -> Any:
    """Return what a network returns with other predictions in it, one batch or a list of images."""
    if hasattr(output, "shape"):
        return predictions
    if isinstance(output[0], (list, tuple)):
        predictions = type(output[0])(predictions)
    if isinstance(output, dict):
        return type(output)(**dict(output) | {next(iter(output)): predictions})
    return type(output)((predictions, *output[1:]))


def _agree(part: Any, whole: Any | None, chosen: int, count: int) -> bool:
    """Whether rows that were predicted alone are those of the whole batch."""
    if whole is None or len(part) * count != len(whole):
        return False
    wanted = whole.chunk(count)[chosen]
    apart = float((precise(part) - precise(wanted)).norm())
    return apart <= _ROUNDING[min(whole.dtype.itemsize, 4)] * float(precise(wanted).norm())
