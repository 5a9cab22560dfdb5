"""Static thresholding at every resolution (Eq. 37 and Algorithm 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, finite, floating, per_image, signal_power
from reschrom.pipelines.adapter import claimed, denoiser_of
from reschrom.pipelines.scheduler import prediction_of, upcoming
from reschrom.theory.bands import bands, downsample, finer
from reschrom.theory.matching import intensity_scale, matched_alpha, matched_noise
from reschrom.theory.schedules import Schedule

# Where there is less signal than this, an estimate is made as if there were so much: it would be divided by zero.
_LEAST_SIGNAL = 1e-12


def estimate_at(
    x_t: Num[Array, "*batch channels height width"],
    eps: Num[Array, "*batch channels height width"],
    alpha: Num[Array, "*batch"] | Number,
    level: int = 0,
) -> Float[Array, "*batch channels height//2**{level} width//2**{level}"]:
    """Return the low-resolution image that a noise prediction implies: Eq. (37), which is Eq. (7) at level 0.

    x_t, eps: noised images and predicted noise, shape (..., C, H, W), sides multiples of `2^level`.
    alpha: signal power in (0, 1], one number or one per image.
    """
    (x_t, _), (eps, _) = floating(x_t), floating(eps)
    if x_t.ndim < 3:
        raise ValueError(f"images have the shape (..., channels, height, width); got {tuple(x_t.shape)}")
    if x_t.shape != eps.shape:
        raise ValueError(f"x_t and eps must have one shape; got {tuple(x_t.shape)} and {tuple(eps.shape)}")
    finite("x_t and eps", x_t, eps)
    alpha, xp = signal_power(alpha)
    if not bool(xp.all(alpha > 0)):
        raise ValueError("no image can be estimated from pure noise: alpha must be above 0")
    low = downsample(x_t, level)
    scale = per_image(intensity_scale(alpha, level), low)
    signal = per_image(xp.sqrt(matched_alpha(alpha, level)), low)
    noise = per_image(2.0**level * xp.sqrt(matched_noise(alpha, level)), low)
    return (scale * low - noise * downsample(eps, level)) / signal


def threshold(
    x_t: Num[Array, "*batch channels height width"],
    eps: Num[Array, "*batch channels height width"],
    alpha: Num[Array, "*batch"] | Number,
    limit: float = 1.0,
) -> Float[Array, "*batch channels height width"]:
    """Estimate the image with every resolution kept in the pixel range: Algorithm 1, its condition corrected (Eq. 37).

    From one pixel up to full resolution, the detail of each resolution is added and the sum clamped to +-limit.
    As printed, the loop's last step takes the other branch and throws the earlier ones away.

    Parameters
    ----------
    x_t, eps : array, shape (..., C, H, W)
        Noised images and predicted noise, finite, of one shape and any size, else ValueError.
    alpha : array, shape (...), or float
        Signal power in (0, 1], else ValueError: one number or one per image.
    limit : float
        The largest pixel value.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import threshold
    >>> x_t = np.array([[[2.0, 0.0], [1.0, 1.0]]])
    >>> threshold(x_t, eps=0 * x_t, alpha=0.25).tolist()  # the estimate, x_t / 0.5, has the mean 2
    [[[1.0, -1.0], [1.0, 1.0]]]
    """
    # Eq. (37) at level m is D^m of its level 0, so the residuals that the algorithm adds are the bands of one estimate.
    return _limited(estimate_at(x_t, eps, alpha), "multi-resolution", limit)


def thresholded_noise(
    x_t: Num[Array, "*batch channels height width"],
    eps: Num[Array, "*batch channels height width"],
    alpha: Num[Array, "*batch"] | Number,
    kind: str = "multi-resolution",
    limit: float = 1.0,
) -> Float[Array, "*batch channels height width"]:
    """Return the noise prediction that implies the thresholded estimate of the image: Eq. (7) solved for epsilon.

    It may take the place of `eps` in any sampler, whose own clipping is then turned off.

    x_t, eps: noised images and predicted noise, shape (..., C, H, W).
    alpha: signal power in [0, 1), one number or one per image. Where it is 0 all noise is in x_t.
    kind: "multi-resolution" for `threshold`, "plain" to clamp the estimate of full resolution once, "as printed" for
        Algorithm 1 with the condition that the paper prints.
    """
    alpha, xp = signal_power(alpha)
    if not bool(xp.all(alpha < 1)):
        raise ValueError("an image without noise implies no noise prediction: alpha must be below 1")
    estimate = estimate_at(x_t, eps, xp.clip(alpha, _LEAST_SIGNAL, 1.0))
    signal, noise = (per_image(xp.sqrt(power), estimate) for power in (alpha, 1 - alpha))
    return (x_t - signal * _limited(estimate, kind, limit)) / noise


@contextmanager
def thresholded(pipeline: Any, kind: str = "multi-resolution", limit: float = 1.0) -> Iterator[None]:
    """Threshold what the network of a pipeline predicts, at every step and with any scheduler: Algorithm 1.

    Inside the block the pipeline samples with `thresholded_noise` in the place of its noise; after it nothing is left.

    pipeline: an unconditional one with a `unet` that predicts epsilon, its scheduler without `clip_sample` and
        `thresholding`: DDPMPipeline or DDIMPipeline. With guidance it is the guided noise that counts, which only the
        pipeline's own loop has.
    kind, limit: as for `thresholded_noise`.
    Raises TypeError for other pipelines and ValueError where the scheduler clips too, or another such block is open.
    """
    import torch

    unet, scheduler = denoiser_of(pipeline, "unet"), pipeline.scheduler
    settings = scheduler.config
    if hasattr(pipeline, "encode_prompt") or prediction_of(scheduler) != "epsilon":
        raise TypeError(
            "an unconditional pipeline is needed whose `unet` predicts epsilon; "
            f"got {type(pipeline).__name__}, which predicts {prediction_of(scheduler)}"
        )
    if settings.get("clip_sample") or settings.get("thresholding"):
        raise ValueError("one threshold at a time: the scheduler needs clip_sample=False and thresholding=False")
    Schedule.from_diffusers(scheduler)  # refuses what has no known signal-to-noise ratio

    def replace(_: Any, args: tuple[Any, ...], output: Any) -> Any:
        x_t, timestep = args[:2]
        mixture, _ = upcoming(scheduler, timestep)
        alpha = torch.full((len(x_t),), mixture.alpha, dtype=torch.float64)
        precise = torch.promote_types(x_t.dtype, torch.float32)
        noise = thresholded_noise(x_t.to(precise), output.sample.to(precise), alpha, kind, limit)
        return type(output)(sample=noise.to(x_t.dtype))

    with claimed(unet, "thresholded"):
        handle = unet.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()


def _every_resolution(estimate: Array, limit: float) -> Array:
    xp = array_namespace(estimate)
    *details, coarsest = bands(estimate)
    x_0 = xp.clip(coarsest, -limit, limit)
    for m, detail in reversed([*enumerate(details)]):
        x_0 = xp.clip(finer(x_0, estimate.shape[-2:], m) + detail, -limit, limit)
    return x_0


def _once(estimate: Array, limit: float) -> Array:
    return array_namespace(estimate).clip(estimate, -limit, limit)


def _as_printed(estimate: Array, limit: float) -> Array:
    xp = array_namespace(estimate)
    *details, coarsest = bands(estimate)
    x_0 = xp.clip(coarsest, -limit, limit)
    for m, detail in reversed([*enumerate(details)]):
        # The branches stand as in the paper: at full resolution the sum so far is replaced.
        x_0 = xp.clip(finer(x_0, estimate.shape[-2:], m) + detail if m > 0 else estimate, -limit, limit)
    return x_0


def _limited(estimate: Array, kind: str, limit: float) -> Array:
    if not limit > 0:
        raise ValueError(f"the pixel limit must be positive; got {limit}")
    match kind:
        case "multi-resolution":
            return _every_resolution(estimate, limit)
        case "plain":
            return _once(estimate, limit)
        case "as printed":
            return _as_printed(estimate, limit)
    raise ValueError(f"a threshold is 'multi-resolution', 'plain', 'as printed'; got {kind!r}")
