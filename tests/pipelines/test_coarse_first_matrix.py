"""CoarseFirst on every class of the zoo: the formula, computed from hooks on network and scheduler, or a refusal.

The network is heard below the block and above it. How noised its images are is read from `scheduler.step` by the tests'
own rules, and what its output means is stated by the case.
"""

import contextlib
import functools
import inspect
import re
import warnings

import numpy as np
import pytest
import torch
from zoo import CASES
from zoo.matrix import CRASHED, RIGHT, WRONG
from zoo.matrix import _refusal as refusal
from zoo.truth import alpha_and_state, enlarged, pooled

from reschrom import CoarseFirst, Schedule

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
# What must run: networks of one noised image that predict noise, image, v or a flow, as latents or as packed tokens.
RUNNING = (
    *("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "IFPipeline"),
    *("PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline", "FluxPipeline", "QwenImagePipeline"),
    *("DDPMPipeline", "DDIMPipeline", "LDMPipeline", "StableDiffusionPAGPipeline", "DiTPipeline"),
)


@contextlib.contextmanager
def heard(pipeline, network):
    """Collect the calls of a network below the block and above it, and the steps of the scheduler."""
    scheduler, below, above, steps = pipeline.scheduler, [], [], []
    forward, step, signature = network.forward, scheduler.step, inspect.signature(scheduler.step)
    names = inspect.signature(forward)

    def numbers(args, kwargs, output):
        given = names.bind(*args, **kwargs).arguments
        shown, time = next(iter(given.values())), given.get("timestep")
        output = output if hasattr(output, "shape") else output[0]
        time = None if time is None else float(torch.as_tensor(time).flatten()[0])
        return shown.detach().double().numpy().copy(), time, output.detach().double().numpy().copy()

    @functools.wraps(forward)
    def recorded(*args, **kwargs):
        output = forward(*args, **kwargs)
        below.append(numbers(args, kwargs, output))
        return output

    @functools.wraps(step)
    def stepped(*args, **kwargs):
        given, first = signature.bind(*args, **kwargs).arguments, getattr(scheduler, "state_in_first_order", True)
        sample, index = given["sample"].double().numpy().copy(), getattr(scheduler, "step_index", None)
        result = step(*args, **kwargs)
        place = index if index is not None else (getattr(scheduler, "step_index", None) or 1) - 1
        if type(scheduler).__name__ == "RePaintScheduler":  # which has one table
            steps.append((len(above), float(scheduler.alphas_cumprod[int(given["timestep"])]), ""))
        else:
            steps.append((len(above), *alpha_and_state(scheduler, place, given["timestep"], sample, first)[:2]))
        return result

    network.forward, scheduler.step = recorded, stepped
    hook = network.register_forward_hook(
        lambda module, args, kwargs, output: above.append(numbers(args, kwargs, output)), with_kwargs=True
    )
    try:
        yield below, above, steps
    finally:
        hook.remove()
        del network.forward, scheduler.step


def noise_of(kind, output, x, alpha):
    """The noise that an output means at x, an image of unit intensity."""
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    return {"epsilon": lambda: output, "sample": lambda: (x - signal * output) / noise,
            "v_prediction": lambda: noise * x + signal * output,
            "flow_prediction": lambda: (x + signal * output) / (signal + noise)}[kind]()  # fmt: skip


def difference(case, scheduler, below, above, steps, spectrum):
    """Say in what the predictions differ from the formula; empty where they do not."""
    kind = (
        case.prediction or scheduler.config.get("prediction_type") or ("flow_prediction" if steps[0][2] else "epsilon")
    )
    if len(below) != len(above):
        return f"{len(above)} predictions have {len(below)} passes"
    checked = 0
    for index, ((low, told, said), (x, time, output)) in enumerate(zip(below, above, strict=True)):
        if low.shape == x.shape:
            continue
        alpha, flow = next((alpha, flow) for after, alpha, flow in steps if index < after)
        if x.ndim == 3:
            height, width = case.size
            low, said = (case.unpack(torch.from_numpy(each), height // 2, width // 2).numpy() for each in (low, said))
            x, output = (case.unpack(torch.from_numpy(each), height, width).numpy() for each in (x, output))
        channels = x.shape[1]
        total = 4 * alpha + 1 - alpha
        small = 4 * alpha / total

        def path(a, flow=flow):
            return a**0.5 + (1 - a) ** 0.5 if flow else 1.0

        unit = x * path(alpha)
        shrunk = 2 / total**0.5 * pooled(unit)
        if not np.allclose(low * path(small), shrunk, rtol=1e-3, atol=1e-4):
            return "the pooled image has another intensity"
        if flow:
            wanted = told * sigma_ratio(alpha, small)
            if abs(wanted - time) > 2e-2 * time:
                return f"the pooled image is said to be of the time {told:g}, beside {time:g}"
        elif hasattr(scheduler, "alphas_cumprod"):
            tau = float(Schedule.from_diffusers(scheduler).time(small))
            if abs(told - max(tau, 0)) > 0.05:
                return f"the pooled image is said to be of the time {told:g}, which is {tau:g}"
        coarse = noise_of(kind, case.sign * said[:, :channels], shrunk, small)
        mine = noise_of(kind, case.sign * output[:, :channels], unit, alpha)
        detail = (1 - alpha) ** 0.5 / (alpha * spectrum[0] + 1 - alpha) * (unit - enlarged(pooled(unit)))
        right = enlarged(coarse) / 2 + detail
        apart = np.abs(mine - right).max() / np.abs(right).max()
        if apart > 1e-3:
            return f"the prediction at alpha = {alpha:.3g} is {apart:.1e} from the formula"
        checked += 1
    return "" if checked else "no image was pooled"


def sigma_ratio(alpha, small):
    """How many times the sigma of a straight path is that of its pooled image."""
    large, low = (((1 - a) ** 0.5 / (a**0.5 + (1 - a) ** 0.5)) for a in (alpha, small))
    return large / low


@functools.cache
def verdict(name):
    """Run a case coarse first: right, one line of refusal, wrong or crashed."""
    case = CASES[name]
    variation = "default" if "default" in case.supports else min(case.supports)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        pipeline = case.build()
        torch.manual_seed(0)
        for bands in (4, 5, 6, 3, 7):
            spectrum = [0.2 * 2.0**m for m in range(bands)]
            try:
                steps = 2
                schedule = Schedule.from_diffusers(pipeline.scheduler)
                turn = 0.1 * schedule.end
                coarse = CoarseFirst(pipeline, spectrum, turning_points=[turn], steps=steps)
                network = getattr(pipeline, "unet", None) or pipeline.transformer
                with heard(pipeline, network) as (below, above, seen), coarse:
                    pipeline(**case.variation(variation) | {"num_inference_steps": 4})
            except (TypeError, ValueError) as error:
                if re.search(r"a spectrum of \d bands is needed", str(error)):
                    continue
                return refusal(error)
            except Exception as error:
                return CRASHED + repr(error)
            differs = difference(case, pipeline.scheduler, below, above, seen, spectrum)
            return WRONG + differs if differs else RIGHT
    return "no spectrum fits"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_a_pipeline_is_drawn_coarse_first_by_the_formula_or_refused(name):
    said = verdict(name)
    assert not said.startswith((WRONG, CRASHED)), said
    assert said == RIGHT or "EDM" in name or name.split(",")[0] not in RUNNING, said
