"""Upsample Guidance (Hwang, Park, Jo; 2024, arXiv 2404.01709): larger images than a network was trained on.

In a noised image of another size than its own, a network estimates the detail well and the whole badly. The same image,
pooled to the network's size, is a noised image like those it learned from, of another time and intensity: Eqs. (10)
and (13). So its estimate there takes the place of the coarse part of the first one. Nothing is trained.
"""

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace
from jaxtyping import Float

from reschrom._arrays import Array
from reschrom.pipelines.adapter import claimed, denoiser_of, estimate_and_noise, replaced_method
from reschrom.pipelines.scheduler import prediction_of, upcoming
from reschrom.pipelines.texts import tensors_in
from reschrom.theory.schedules import Schedule

if TYPE_CHECKING:
    import torch

# By how much the output of a network changes when its estimate of x_0 does, at a signal power: Eq. (7).
_RESPONSES: dict[str, Callable[[float], float]] = {
    "epsilon": lambda alpha: -math.sqrt(alpha / (1 - alpha)),
    "sample": lambda alpha: 1.0,
    "v_prediction": lambda alpha: -1 / math.sqrt(1 - alpha),
}


def coarse_correction(
    denoise: Callable[[Array, float], Array],
    x_t: Float[Array, "images channels height width"],
    estimate: Float[Array, "images channels height width"],
    alpha: float,
    scale: int = 2,
) -> Float[Array, "images channels height width"]:
    """Return what Upsample Guidance of weight 1 adds to an estimate of x_0: `U[E_low] - UD[estimate]`.

    E_low is the estimate of `denoise` in the pooled image `D[x_t] / sqrt(P)`, `P = alpha + (1 - alpha) / scale^2`. Its
    signal power is `alpha / P`: Eq. (13), for blocks of any size. In noise predictions it is
    `U[eps_low / scale] - UD[eps]`, as its authors write it.

    denoise: the estimate of x_0 in noised images of low resolution and a signal power.
    x_t, estimate: noised images and the estimate of x_0 in them, shape (N, C, H, W), sides multiples of `scale`.
    alpha: signal power of x_t in [0, 1].
    scale: pixels along one side of a block that D averages and U fills.
    """
    intensity = alpha + (1 - alpha) / scale**2
    low = denoise(_pooled(x_t, scale) / math.sqrt(intensity), alpha / intensity)
    return _enlarged(low - _pooled(estimate, scale), scale)


class UpsampleGuidance:
    """Let a diffusers pipeline draw larger images than its network was trained on: Upsample Guidance, by Eq. (13).

    At every time t of weight `theta H(t - (1 - share) T)` above 0, H(0) = 1, the network predicts twice: from the
    noised image, and from the same image pooled to 1 / scale of its sides, at unit intensity and at the time tau at
    which its schedule is so noisy. tau lies in general between two timesteps and is passed to the network as it is;
    where it would lie before timestep 0, as 0. The coarse part of the first prediction moves towards the second by the
    weight, which may be above 1. All other inputs are the same in both, so with guidance both parts of a batch are
    corrected, which is the same as correcting their sum. A learned variance stays as it was.

    The size of the images is asked for as without it; of a pipeline that takes none, such as DDPMPipeline, with
    `pipeline.unet.register_to_config(sample_size=64)`. After the block the pipeline is as it was. A `PromptSchedule`
    belongs inside the block, so that its prompts are those of time t in both predictions, and is refused around it.

    Parameters
    ----------
    pipeline : diffusers pipeline
        With a `unet`, in pixels or latents, that is shown nothing but the noised image and predicts epsilon, sample or
        v_prediction, and a scheduler that `Schedule.from_diffusers` reads.
    scale : int
        How many times larger the images are than those of training, 2 or more.
    theta : float
        The weight, 0 or more; 1 takes the low-resolution prediction as it is. About 1.2 was found best.
    share : float
        Of the times that have it, from noise on, in [0, 1]: its authors' eta. They advise less than 1 in latents.

    Raises
    ------
    TypeError
        For other pipelines.
    ValueError
        For numbers out of range, for a network that predicts a flow, for a pipeline with another such block, and, when
        it is called, for images that do not divide into blocks of scale x scale and a network that is shown several.

    Examples
    --------
    >>> from reschrom import UpsampleGuidance, load_pipeline
    >>> pipeline = load_pipeline("data/models/pocket-lowres-16")
    >>> pipeline.unet.register_to_config(sample_size=32)
    >>> with UpsampleGuidance(pipeline, scale=2, theta=1.2, share=0.6):
    ...     image = pipeline(num_inference_steps=2).images[0]
    >>> image.size
    (32, 32)
    """

    def __init__(self, pipeline: Any, scale: int = 2, theta: float = 1.0, share: float = 1.0) -> None:
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 2:
            raise ValueError(f"scale says how many times larger images are, a whole number of 2 or more; got {scale!r}")
        if not 0 <= theta < math.inf:
            raise ValueError(f"theta is the weight of the guidance, finite and 0 or more; got {theta:g}")
        if not 0 <= share <= 1:
            raise ValueError(f"share says how much of the time is guided and lies in [0, 1]; got {share:g}")
        unet, scheduler = denoiser_of(pipeline, "unet"), pipeline.scheduler
        self._prediction = prediction_of(scheduler)
        if self._prediction not in _RESPONSES:
            raise ValueError(
                f"a network is needed that predicts {', '.join(_RESPONSES)}; this one predicts {self._prediction}"
            )
        config = getattr(unet, "config", None) or {}
        channels_in, channels_out = config.get("in_channels"), config.get("out_channels")
        if not isinstance(channels_in, int) or any(hasattr(pipeline, part) for part in ("controlnet", "adapter")):
            raise TypeError(
                f"a pipeline is needed whose `unet` states its channels and has no ControlNet or adapter beside it; "
                f"got {type(pipeline).__name__}"
            )
        learned = str(scheduler.config.get("variance_type")).startswith("learned")
        if channels_out not in ((2 * channels_in,) if learned else (channels_in, 2 * channels_in)):
            raise TypeError(
                f"a `unet` is needed that sees the noised image alone; that of {type(pipeline).__name__} sees "
                f"{channels_in} channels and predicts {channels_out}"
            )
        self._schedule = Schedule.from_diffusers(scheduler)
        self._pipeline, self._scheduler, self._unet, self._scale, self._theta = pipeline, scheduler, unet, scale, theta
        self._until = (1 - share) * scheduler.config.num_train_timesteps
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "UpsampleGuidance":
        """Begin to guide."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(claimed(self._unet, "UpsampleGuidance", around="PromptSchedule"))
            stack.enter_context(replaced_method(self._unet, "forward", self._predict_guided))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the network back its own."""
        self._open.close()

    def _predict_guided(
        self,
        predict: Callable[..., Any],
        sample: "torch.Tensor",
        timestep: "torch.Tensor | float | int",
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        import torch

        shown = [sample, *(each for each in tensors_in([args, kwargs]) if each.ndim > 3)]
        if sample.ndim != 4 or len(shown) > 1:
            raise ValueError(
                "a network is needed that is shown one image, (N, C, H, W); this one is shown the shapes "
                f"{[tuple(each.shape) for each in shown]}, such as a video, a hint, or the residuals of a ControlNet"
            )
        if self._pipeline.scheduler is not self._scheduler:
            raise ValueError("the scheduler was exchanged after UpsampleGuidance was made: make it anew")
        output = predict(sample, timestep, *args, **kwargs)
        mixture, t = upcoming(self._scheduler, timestep)
        if self._theta == 0 or t < self._until:
            return output

        def denoise(x: torch.Tensor, alpha: float) -> torch.Tensor:
            time = float(self._schedule.network_time(self._schedule.time(alpha)))
            tau = torch.tensor(time, dtype=torch.float32, device=x.device)
            prediction = predict(x.to(sample.dtype), tau, *args, **kwargs)[0]
            return estimate_and_noise(prediction, x, alpha, self._prediction)[0]

        alpha, prediction = mixture.alpha, output[0]
        estimate, _ = estimate_and_noise(prediction, sample, alpha, self._prediction)
        change = coarse_correction(denoise, sample, estimate, alpha, self._scale)
        prediction[:, : sample.shape[1]] += self._theta * _RESPONSES[self._prediction](alpha) * change
        return output


def _pooled(x: Array, scale: int) -> Array:
    if x.ndim != 4 or x.shape[-2] % scale or x.shape[-1] % scale:
        raise ValueError(
            f"images or latents, shape (N, C, H, W), must divide into blocks of {scale}x{scale} pixels; "
            f"got {tuple(x.shape)}"
        )
    xp, (count, channels, height, width) = array_namespace(x), x.shape
    return xp.mean(xp.reshape(x, (count, channels, height // scale, scale, width // scale, scale)), axis=(-3, -1))


def _enlarged(x: Array, scale: int) -> Array:
    xp = array_namespace(x)
    return xp.repeat(xp.repeat(x, scale, axis=-2), scale, axis=-1)
