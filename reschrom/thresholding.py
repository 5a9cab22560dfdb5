"""Static thresholding at every resolution (Eq. 37 and Algorithm 1)."""

from jaxtyping import Float, Num

from reschrom._arrays import Array, floating, image_sides, per_image, signal_power
from reschrom.resolution import depth, downsample, upsample
from reschrom.scaling import intensity_scale, matched_alpha, matched_noise


def estimate_at(
    x_t: Num[Array, "*batch channels height width"],
    eps: Num[Array, "*batch channels height width"],
    alpha: Array,
    level: int = 0,
) -> Float[Array, "*batch channels height//2**{level} width//2**{level}"]:
    """Return the estimate of the low-resolution image that a noise prediction implies: Eq. (37), and Eq. (7) at level 0.

    x_t, eps: noised images and predicted noise, shape (..., C, H, W).
    alpha: signal power in (0, 1], one number or one per image.
    """
    image_sides(x_t, level)
    if x_t.shape != eps.shape:
        raise ValueError(f"x_t and eps must have one shape; got {tuple(x_t.shape)} and {tuple(eps.shape)}")
    alpha, xp = signal_power(alpha)
    if not bool(xp.all(alpha > 0)):
        raise ValueError("no image can be estimated from pure noise: alpha must be above 0")
    scale, signal, noise = (
        per_image(f(alpha, level), x_t) for f in (intensity_scale, lambda a, m: matched_alpha(a, m) ** 0.5, _noise_std)
    )
    return (scale * downsample(x_t, level) - 2.0**level * noise * downsample(eps, level)) / signal


def threshold(
    x_t: Num[Array, "*batch channels height width"],
    eps: Num[Array, "*batch channels height width"],
    alpha: Array,
    limit: float = 1.0,
) -> Float[Array, "*batch channels height width"]:
    """Estimate the image, keeping every resolution within the pixel range: Algorithm 1 with its branches corrected.

    From one pixel up to full resolution, the detail of each resolution is added and the sum clamped to +-limit.
    As printed, the two branches of the loop are swapped, and the last step throws the earlier ones away.

    x_t, eps: noised images and predicted noise, shape (..., C, H, W), sides powers of two.
    alpha: signal power in (0, 1], one number or one per image.
    """
    if not limit > 0:
        raise ValueError(f"the pixel limit must be positive; got {limit}")
    height, width = image_sides(x_t)
    x_t, xp = floating(x_t)
    coarsest = depth(min(height, width))
    x_0 = xp.clip(estimate_at(x_t, eps, alpha, coarsest), -limit, limit)
    for level in reversed(range(coarsest)):
        estimate = estimate_at(x_t, eps, alpha, level)
        detail = estimate - upsample(downsample(estimate))
        x_0 = xp.clip(upsample(x_0) + detail, -limit, limit)
    return x_0


def _noise_std(alpha: Array, level: int) -> Array:
    return matched_noise(alpha, level) ** 0.5
