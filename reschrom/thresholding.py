"""Static thresholding at every resolution (Eq. 37 and Algorithm 1)."""

from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, finite, floating, per_image, signal_power
from reschrom.resolution import bands, downsample, upsample
from reschrom.scaling import intensity_scale, matched_alpha, matched_noise


def estimate_at(
    x_t: Num[Array, "*batch channels height width"],
    eps: Num[Array, "*batch channels height width"],
    alpha: Num[Array, "*batch"] | Number,
    level: int = 0,
) -> Float[Array, "*batch channels height//2**{level} width//2**{level}"]:
    """Return the low-resolution image that a noise prediction implies: Eq. (37), which is Eq. (7) at level 0.

    x_t, eps: noised images and predicted noise, shape (..., C, H, W).
    alpha: signal power in (0, 1], one number or one per image.
    """
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
    """Estimate the image, keeping every resolution within the pixel range: Algorithm 1 with its condition corrected.

    From one pixel up to full resolution, the detail of each resolution is added and the sum clamped to +-limit.
    As printed, the loop's last step takes the other branch and throws the earlier ones away.

    x_t, eps: noised images and predicted noise, shape (..., C, H, W), sides powers of two.
    alpha: signal power in (0, 1], one number or one per image.
    """
    if not limit > 0:
        raise ValueError(f"the pixel limit must be positive; got {limit}")
    estimate, xp = floating(estimate_at(x_t, eps, alpha))
    # Eq. (37) at level m is D^m of its level 0, so the residuals that the algorithm adds are the bands of one estimate.
    *details, coarsest = bands(estimate)
    x_0 = xp.clip(coarsest, -limit, limit)
    for detail in reversed(details):
        x_0 = xp.clip(upsample(x_0) + detail, -limit, limit)
    return x_0
