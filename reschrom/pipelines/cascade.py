"""White noise predicted one resolution at a time: what each model learns, and how all are merged (Eqs. 21-24)."""

from collections.abc import Callable, Sequence

from jaxtyping import Float, Num

from reschrom._arrays import Array, Number, image_sides, per_image
from reschrom.theory.bands import downsample, upsample
from reschrom.theory.matching import intensity_scale, matched_alpha

# Predicts noise from noised images, shape (..., C, H, W), and their signal power.
NoiseModel = Callable[[Array, Array], Array]


def residual_target(
    noise: Num[Array, "*batch channels height width"],
) -> Float[Array, "*batch channels height width"]:
    """Return the part of the noise that coarser models cannot predict, `noise - UD[noise]`: Eqs. (21) and (23).

    It is the training target of every model of a cascade but the coarsest, which learns all of its noise.
    noise: shape (..., C, H, W), both sides even.
    """
    return noise - upsample(downsample(noise))


def cascaded_noise(
    models: Sequence[NoiseModel],
    x_t: Num[Array, "*batch channels height width"],
    alpha: Num[Array, "*batch"] | Number,
    time_adjustment: bool = True,
    intensity_rescaling: bool = True,
) -> Float[Array, "*batch channels height width"]:
    """Merge the noise predictions of models of different resolutions, `sum_m 2^-m U^m[eps_m]`: Eqs. (22) and (24).

    models: finest first, so that `models[m]` predicts at level m: the coarsest all of the noise of its resolution, of
        unit variance, the others their `residual_target`. Each is given `lambda_m D^m[x_t]` and the signal power at
        tau_m, Eq. (16).
    x_t: noised images, shape (..., C, H, W), sides multiples of `2^(len(models) - 1)`.
    alpha: signal power in [0, 1], one number or one per image.
    time_adjustment: whether models are given the signal power at tau_m; else that at t.
    intensity_rescaling: whether images are scaled by lambda_m; else they are `D^m[x_t]`.
    """
    if len(models) == 0:
        raise ValueError("a cascade has one or more models; got none")
    image_sides(x_t, len(models) - 1)
    predictions, low = [], x_t
    for level, model in enumerate(models):
        low = downsample(low) if level else low
        scaled = per_image(intensity_scale(alpha, level), low) * low if intensity_rescaling else low
        predictions.append(model(scaled, matched_alpha(alpha, level) if time_adjustment else alpha))
    noise = predictions.pop()
    for residual in reversed(predictions):
        noise = residual + 0.5 * upsample(noise)
    return noise
