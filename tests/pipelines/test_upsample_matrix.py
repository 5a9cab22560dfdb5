"""Upsample Guidance on every class of the zoo: the formula, computed from hooks on network and scheduler, or a refusal.

The network is heard below the block and above it. How noised its images are is read from `scheduler.step` by the tests'
own rules, so every scheduler is covered: those that step sigmas, those of second order, those of one table.
"""

import contextlib
import functools
import inspect
import warnings

import numpy as np
import pytest
import torch
from zoo import CASES
from zoo.matrix import CRASHED, RIGHT, WRONG
from zoo.matrix import _refusal as refusal
from zoo.truth import alpha_and_state, enlarged, pooled

from reschrom import UpsampleGuidance

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
THETA = 1.2
# What must be guided: a UNet that is shown one noised image and predicts noise, image or v.
GUIDED = (
    *("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionXLPipeline", "IFPipeline"),
    *("StableDiffusionXLImg2ImgPipeline", "StableDiffusionPAGPipeline", "LatentConsistencyModelPipeline"),
    *("KandinskyV22Pipeline", "DDPMPipeline", "DDIMPipeline", "LDMPipeline", "LDMTextToImagePipeline"),
)


@contextlib.contextmanager
def heard(pipeline):
    """Collect the calls of the network below the block, what it returns above it, and the steps of the scheduler."""
    unet, scheduler, below, above, steps = pipeline.unet, pipeline.scheduler, [], [], []
    forward, step, signature = unet.forward, scheduler.step, inspect.signature(scheduler.step)

    @functools.wraps(forward)
    def recorded(sample, timestep, *args, **kwargs):
        output = forward(sample, timestep, *args, **kwargs)
        below.append((sample.double().numpy(), float(torch.as_tensor(timestep).flatten()[0]), numbers(output)))
        return output

    @functools.wraps(step)
    def stepped(*args, **kwargs):
        given, first = signature.bind(*args, **kwargs).arguments, getattr(scheduler, "state_in_first_order", True)
        sample, index = given["sample"].double().numpy().copy(), getattr(scheduler, "step_index", None)
        result = step(*args, **kwargs)
        place = index if index is not None else (getattr(scheduler, "step_index", None) or 1) - 1
        if type(scheduler).__name__ == "RePaintScheduler":  # which has one table
            steps.append(float(scheduler.alphas_cumprod[int(given["timestep"])]))
        else:
            steps.append(alpha_and_state(scheduler, place, given["timestep"], sample, first)[0])
        return result

    unet.forward, scheduler.step = recorded, stepped
    hook = unet.register_forward_hook(lambda module, args, output: above.append(numbers(output)))
    try:
        yield below, above, steps
    finally:
        hook.remove()
        del unet.forward, scheduler.step


def numbers(output):
    return output[0].detach().double().numpy().copy()


def estimate(kind, output, x, alpha):
    output = output[:, : x.shape[1]]
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    return {"epsilon": lambda: (x - noise * output) / signal, "sample": lambda: output,
            "v_prediction": lambda: signal * x - noise * output}[kind]()  # fmt: skip


def output_of(kind, estimated, x, alpha):
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    return {"epsilon": lambda: (x - signal * estimated) / noise, "sample": lambda: estimated,
            "v_prediction": lambda: (signal * x - estimated) / noise}[kind]()  # fmt: skip


def difference(scheduler, below, above, steps):
    """Say in what the guided predictions differ from the formula; empty where they do not."""
    kind = scheduler.config.get("prediction_type", "epsilon")
    table = np.asarray(scheduler.alphas_cumprod, dtype=np.float64)
    levels = np.log(1 - table) - np.log(np.maximum(table, 1e-300))
    if (len(below), len(above)) != (2 * len(steps), len(steps)):
        return f"{len(steps)} steps have {len(below)} passes and {len(above)} predictions"
    for (x, _, large), (low_x, low_t, low), guided, alpha in zip(below[::2], below[1::2], above, steps, strict=True):
        intensity = alpha + (1 - alpha) / 4
        if not np.allclose(low_x, pooled(x) / intensity**0.5, rtol=1e-4, atol=1e-5):
            return "the pooled image has another intensity"
        low_alpha = alpha / intensity
        wanted = np.interp(np.log(1 - low_alpha) - np.log(max(low_alpha, 1e-300)), levels, np.arange(len(levels)))
        if abs(low_t - wanted) > 0.05:
            return f"the pooled image is said to be of the time {low_t:g}, which is {wanted:g}"
        one = estimate(kind, large, x, alpha)
        other = estimate(kind, low, low_x, low_alpha)
        right = output_of(kind, one + THETA * enlarged(other - pooled(one)), x, alpha)
        apart = np.abs(guided[:, : x.shape[1]] - right).max() / np.abs(right).max()
        if not apart < 1e-3:
            return f"the prediction is off by {apart:.2g}"
        if not np.array_equal(guided[:, x.shape[1] :], large[:, x.shape[1] :]):
            return "the learned variance is another"
    return ""


def verdict(name):
    case = CASES[name]
    variation = "default" if "default" in case.supports else min(case.supports)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        pipeline = case.build()
        torch.manual_seed(0)
        try:
            guidance = UpsampleGuidance(pipeline, theta=THETA)
            with heard(pipeline) as (below, above, steps), guidance:
                pipeline(**case.variation(variation))
        except (TypeError, ValueError) as error:
            return refusal(error)
        except Exception as error:
            return CRASHED + repr(error)
    differs = difference(pipeline.scheduler, below, above, steps)
    return WRONG + differs if differs else RIGHT


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_a_pipeline_is_guided_by_the_formula_or_refused(name):
    said = verdict(name)
    assert not said.startswith((WRONG, CRASHED)), said
    assert said == RIGHT or name.split(",")[0] not in GUIDED or "this one predicts edm" in said, said
