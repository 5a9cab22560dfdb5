"""Losses and generation rates of a model, which is any denoiser or a pipeline of diffusers.

The measurements are those of `denoisers.losses`; here a pipeline is turned into a denoiser before they begin.
"""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from reschrom.denoisers import losses
from reschrom.pipelines.adapter import network_denoiser

P = ParamSpec("P")
R = TypeVar("R")


def of_any_model(measure: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Let a measurement of a denoiser take a pipeline of diffusers too; its network predicts without a prompt."""

    @functools.wraps(measure)
    def measured(model: Any, *args: P.args, **kwargs: P.kwargs) -> R:  # `model=` works too
        return measure(network_denoiser(model) if hasattr(model, "scheduler") else model, *args, **kwargs)

    return cast(Callable[Concatenate[Any, P], R], measured)


band_losses = of_any_model(losses.band_losses)
rates_from_losses = of_any_model(losses.rates_from_losses)
rates_from_sampling = of_any_model(losses.rates_from_sampling)
