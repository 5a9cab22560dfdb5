"""Trained networks as denoisers: what the output of a diffusers network says about the image and the noise."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def estimate_and_noise(
    output: "torch.Tensor", x_t: "torch.Tensor", alpha: float, prediction_type: str
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Convert a network's output into its estimate of x_0 and its prediction of the noise: Eq. (7).

    output: shape (N, C, ...) or, with a learned variance after the prediction, (N, 2C, ...), whose variance is cut off.
    x_t: what the network was given, shape (N, C, ...): Eq. (1), or for "flow_prediction" the point
        (1 - sigma) x_0 + sigma noise of a straight path.
    alpha: signal power; for "flow_prediction" that of the Eq. (1) with the same signal-to-noise ratio.
    prediction_type: the names of diffusers: epsilon, sample, v_prediction or flow_prediction (noise - x_0).
    Returns two tensors of the shape of x_t, in float32 or better. Raises ValueError for any other type.
    """
    import torch

    precise = torch.promote_types(x_t.dtype, torch.float32)
    x_t, output = x_t.to(precise), output[:, : x_t.shape[1]].to(precise)
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    if prediction_type == "epsilon":
        return (x_t - noise * output) / signal, output
    if prediction_type == "sample":
        return output, (x_t - signal * output) / noise
    if prediction_type == "v_prediction":
        return signal * x_t - noise * output, noise * x_t + signal * output
    if prediction_type == "flow_prediction":
        sigma = noise / (signal + noise)
        return x_t - sigma * output, x_t + (1 - sigma) * output
    raise ValueError(
        "a network is needed that predicts epsilon, sample, v_prediction or flow_prediction; "
        f"this one predicts {prediction_type}"
    )
