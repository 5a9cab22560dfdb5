"""GuidanceSchedule on every class of the zoo that guides: right to rounding, or refused in one line.

What the scheduler must be given is put together here, from what the network and the pipeline made in a plain run.
"""

import contextlib
import functools
import inspect
import warnings
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import deepfloyd, embedded, stable_diffusion
from zoo import CASES
from zoo.matrix import CRASHED, RIGHT, WRONG, _pipeline, outputs
from zoo.matrix import _refusal as refusal
from zoo.stable import scaled
from zoo.texts import NEGATIVE, PROMPTS, call_with_words, with_words
from zoo.truth import _arranged, _branches, _named

from reschrom import Chromatograph, GuidanceInterval, GuidanceSchedule, PromptSchedule, Schedule
from reschrom.pipelines.adapter import replaced_method

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
COMMON = (
    "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline, true CFG",
    "PixArtAlphaPipeline", "IFPipeline", "WanPipeline", "QwenImagePipeline", "ZImagePipeline", "LTXPipeline",
    "StableDiffusionControlNetPipeline", "StableDiffusionInstructPix2PixPipeline", "StableDiffusionPAGPipeline",
)  # fmt: skip
GUIDED = [name for name, case in CASES.items() if "four steps" in case.supports and not case.refused]


def shown(case, sample, combined, frames):
    """Return images without what the scheduler repeats, and videos that it steps frame by frame as videos."""
    if case.doubled and len(sample) > 1 and np.array_equal(*np.split(sample, 2)):
        sample, combined = (each[: len(each) // 2] for each in (sample, combined))
    if case.folded:
        sample, combined = (np.moveaxis(each.reshape(-1, frames, *each.shape[1:]), 1, 2) for each in (sample, combined))
    return sample, combined


@contextmanager
def overheard(pipeline, case):
    """Record each step: what is stepped, what the scheduler is given, what the network returned, and what it made."""
    steps, made, batches = [], [], []

    def tensor(output):
        first = output if isinstance(output, torch.Tensor) else output[0]
        told = case.output(output) if case.output else first
        return torch.stack(list(told)) if isinstance(told, (list, tuple)) else told

    def forward(original, *args, **kwargs):
        output = original(*args, **kwargs)
        batches.append(len(tensor(output)))
        return output

    def step(original, *args, **kwargs):
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        sample, combined = (given[name].detach().double().numpy().copy() for name in ("sample", "model_output"))
        steps.append((sample, combined, list(made), list(batches)))
        made.clear()
        batches.clear()
        return original(*args, **kwargs)

    with contextlib.ExitStack() as stack:
        for network in (_named(pipeline, name) for name in case.networks):
            stack.enter_context(replaced_method(network, "forward", forward))
            hook = network.register_forward_hook(
                lambda _, args, output: made.append(tensor(output).detach().double().numpy().copy())
            )
            stack.callback(hook.remove)
        stack.enter_context(replaced_method(pipeline.scheduler, "step", step))
        yield steps


def as_images(case, size, step, inverted):
    """Return the conditional prediction in the scheduler's terms, and what the scheduler was given, as images."""
    sample, combined, made, _ = step
    sample, combined = shown(case, sample, combined, made[0].shape[2] if made[0].ndim == 5 else 1)
    rows = _branches(case, made, len(sample))
    sign = 1 if inverted else case.sign  # Mochi's scheduler takes the outputs as they are
    conditional = sign * _arranged(case, size, rows["conditional"], sample.shape)
    return conditional, _arranged(case, size, combined, sample.shape), len(rows) > 1


def parts(x):
    """Split images into the parts of their bands, finest first, by means over blocks; None where they do not halve."""
    *_, h, w = x.shape
    short = min(h, w)
    if short & (short - 1) or h % short or w % short:
        return None
    means, n = [x], 1
    while n < short:
        n *= 2
        mean = x.reshape(*x.shape[:-2], h // n, n, w // n, n).mean(axis=(-3, -1))
        means.append(np.repeat(np.repeat(mean, n, axis=-1), n, axis=-2))
    return [*(a - b for a, b in pairwise(means)), means[-1]]


def run(name, variation="four steps", weights=None):
    case, pipeline = CASES[name], _pipeline(name)
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad(), overheard(pipeline, case) as steps:
        warnings.simplefilter("ignore")
        if weights is None:
            return outputs(pipeline(**case.variation(variation))), steps, None
        with GuidanceSchedule(pipeline, weights) as schedule:
            return outputs(pipeline(**case.variation(variation))), steps, schedule


def close(found, wanted):
    return np.linalg.norm(found - wanted) <= 2e-5 * np.linalg.norm(wanted)


@functools.cache
def verdict(name, variation="four steps"):
    case, inverted = CASES[name], bool(_pipeline(name).scheduler.config.get("invert_sigmas"))
    images, plain, _ = run(name, variation)
    try:
        same, again, schedule = run(name, variation, 1.0)
        conditional, guided, two = as_images(case, case.size, plain[0], inverted)
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(images, same, strict=True)):
            return WRONG + "weight 1 is not the plain run"
        if schedule.skipped or [step[3] for step in plain] != [step[3] for step in again]:
            return WRONG + "weight 1 left something out"
        pieces = parts(guided - conditional)
        if two and not case.altered and pieces is not None:
            weights = np.linspace(-0.5, 2.0, len(pieces))
            _, changed, _ = run(name, variation, weights)
            wanted = conditional + sum(w * piece for w, piece in zip(weights, pieces, strict=True))
            found = as_images(case, case.size, changed[0], inverted)[1]
            if not close(found, wanted):
                return WRONG + "the bands are not weighed"
        _, none, schedule = run(name, variation, 0.0)
        for step in none:
            conditional, found, _ = as_images(case, case.size, step, inverted)
            if not close(found, conditional) and not case.altered:
                return WRONG + "weight 0 is not the conditional prediction"
        rows = [sum(step[3]) for step in none]
        saved = sum(sum(step[3]) for step in plain) - sum(rows)
        if (schedule.skipped > 0) != (saved > 0):
            return WRONG + f"{schedule.skipped} steps skipped, and {saved} predictions saved"
    except (TypeError, ValueError) as error:
        return refusal(error)
    except Exception as error:
        return CRASHED + repr(error)
    return f"{RIGHT}, {schedule.skipped} of {schedule.steps}"


# Their predictions cannot be read (the same are refused by `Chromatograph`), or there is no guidance.
REFUSED = {
    "LTXImageToVideoPipeline": "which are no rows of what its scheduler steps",
    "HunyuanImagePipeline": "is no combination of what its denoiser predicts",
    "Krea2Pipeline": "does not tell its denoiser where",
    "Cosmos2TextToImagePipeline": "steps a flow at sigma = 80",
    "LuminaPipeline": "is no combination of what its denoiser predicts",
}
# One batch tries its half once; a call of its own may be left out after the first step.
SKIPPED = {name: 3 if not CASES[name].together else 2 for name in COMMON} | {"StableDiffusionPAGPipeline": 0}


@pytest.mark.lasting
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in COMMON else pytest.mark.slow) for n in GUIDED])
def test_a_pipeline_is_guided_as_it_is_told_or_refused(name):
    said = verdict(name)
    assert not said.startswith((WRONG, CRASHED)), said
    if len(CASES[name].branches) == 1 or "guidance off" not in CASES[name].supports:
        assert said.startswith(RIGHT) or "guidance was off" in said or REFUSED.get(name, "-") in said, said
    else:
        assert said.startswith(RIGHT) or REFUSED.get(name, "-") in said, said
    if name in SKIPPED:
        assert said == f"{RIGHT}, {SKIPPED[name]} of 4"


@pytest.mark.parametrize("name", [name for name in COMMON if "four images" in CASES[name].supports])
def test_so_it_is_with_more_images(name):
    said = verdict(name, "four images")
    assert said.startswith(RIGHT), said


def latents(pipeline, weights=None, guidance=4.0, steps=4, images=2, **more):
    """Return what a tiny Stable Diffusion draws, inside the block or without it, and the block."""
    given = {"prompt_embeds": embedded(1), "negative_prompt_embeds": embedded(2), "output_type": "latent"}
    given |= {"num_images_per_prompt": images, "num_inference_steps": steps, "guidance_scale": guidance} | more
    with contextlib.ExitStack() as stack:
        block = stack.enter_context(GuidanceSchedule(pipeline, weights)) if weights is not None else None
        return pipeline(generator=torch.Generator().manual_seed(0), **given).images, block


@pytest.fixture
def pipeline():
    return stable_diffusion(scheduler=scaled()())


def test_weight_zero_is_the_run_without_guidance(pipeline):
    without, _ = latents(pipeline, guidance=1.0)
    inside, block = latents(pipeline, 0.0)
    torch.testing.assert_close(inside, without, rtol=1e-4, atol=1e-5)
    assert (block.steps, block.skipped) == (4, 2)


def test_a_weight_that_is_the_same_for_all_bands_is_another_scale(pipeline):
    wanted, _ = latents(pipeline, guidance=1 + 0.5 * (4 - 1))
    for weights in (0.5, np.full(4, 0.5)):
        inside, _ = latents(pipeline, weights)
        torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-5)


def test_bands_are_orthogonal_and_sum_to_the_whole(pipeline):
    given = []

    def step(original, *args, **kwargs):
        given.append(args[0].double())
        return original(*args, **kwargs)

    with replaced_method(pipeline.scheduler, "step", step):
        for weights in (0.0, 1.0, *np.eye(4)):
            latents(pipeline, weights, steps=1)
    alone, whole, *each = given
    added = torch.stack([one - alone for one in each]).flatten(1)
    torch.testing.assert_close(added.sum(dim=0), (whole - alone).flatten(), rtol=0, atol=1e-5)
    products = added @ added.T
    assert torch.all(products.diagonal() > 1e-6)
    # Predictions of order one in single precision, hundreds of them: rounding of 1e-7 adds up to no more.
    torch.testing.assert_close(products, torch.diag(products.diagonal()), rtol=0, atol=1e-4 * float(products.max()))


@pytest.mark.lasting
@pytest.mark.parametrize("scheduler", ["DDIM", "EulerDiscrete", "HeunDiscrete"])
def test_an_interval_of_log_snr_is_that_of_its_times(scheduler):
    pipeline = stable_diffusion(scheduler=scaled(scheduler, steps_offset=1)())
    schedule = Schedule.from_diffusers(pipeline.scheduler)
    low, high = (float(np.log(schedule.snr(t))) for t in (800.5, 250.5))
    by_time, one = latents(pipeline, lambda t: 0.2505 < t < 0.8005, steps=8)
    by_log_snr, other = latents(pipeline, GuidanceInterval(low, high), steps=8)
    assert torch.equal(by_time, by_log_snr)
    assert one.skipped == other.skipped > 0
    assert not torch.equal(by_time, latents(pipeline, steps=8)[0])


def test_weights_are_asked_for_the_share_of_the_time(pipeline):
    asked = []
    latents(pipeline, lambda t: (asked.append(t), 1.0)[1])
    assert {*asked[1:]} == {t / 1000 for t in pipeline.scheduler.timesteps.tolist()}


def test_a_learned_variance_stays():
    given = []

    def step(original, *args, **kwargs):
        given.append(args[0].clone())
        return original(*args, **kwargs)

    pipeline = deepfloyd()
    text = {"prompt_embeds": embedded(1), "negative_prompt_embeds": embedded(2), "num_inference_steps": 1}
    with replaced_method(pipeline.scheduler, "step", step):
        pipeline(**text, generator=torch.Generator().manual_seed(0))
        with GuidanceSchedule(pipeline, 0.5):
            pipeline(**text, generator=torch.Generator().manual_seed(0))
    (prediction, variance), (weighed, same) = (each.chunk(2, dim=1) for each in given)
    assert torch.equal(variance, same)
    assert not torch.equal(prediction, weighed)


def test_a_network_that_mixes_its_rows_is_never_halved(pipeline):
    def mixing(original, sample, *args, **kwargs):
        output = original(sample, *args, **kwargs)
        output[0].add_(output[0].mean(dim=0, keepdim=True))
        return output

    with replaced_method(pipeline.unet, "forward", mixing):
        _, block = latents(pipeline, 0.0)
    assert (block.steps, block.skipped) == (4, 0)


@pytest.mark.lasting
@pytest.mark.parametrize("inside", [True, False])
def test_a_chromatograph_hears_what_is_left_of_guidance(pipeline, inside):
    alone, _ = latents(pipeline, lambda t: t > 0.4)
    blocks = [Chromatograph(pipeline), GuidanceSchedule(pipeline, lambda t: t > 0.4)]
    with contextlib.ExitStack() as stack:
        for block in blocks if inside else blocks[::-1]:
            stack.enter_context(block)
        measured, _ = latents(pipeline)
    assert torch.equal(alone, measured)
    energy = blocks[0].guidance.rates.sum(axis=0)
    assert energy[0] == 0  # skipped
    assert np.all(energy[-2:] > 0)


@pytest.mark.parametrize("inside", [True, False])
def test_prompts_are_scheduled_in_the_same_run(inside):
    case = CASES["StableDiffusionPipeline"]
    pipeline = with_words(case, case.build())
    schedule = PromptSchedule(pipeline, list(PROMPTS), lambda t: (0.25, 0.75))
    call = functools.partial(call_with_words, case, pipeline, "four steps", PROMPTS[0], NEGATIVE)

    def images(*blocks, **more):
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block)
            return pipeline(**call() | more).images

    guidance = GuidanceSchedule(pipeline, 0.0)
    scheduled = images(*([guidance, schedule] if inside else [schedule, guidance]))
    torch.testing.assert_close(scheduled, images(schedule, guidance_scale=1.0), rtol=1e-4, atol=1e-5)
    assert guidance.skipped > 0


def test_what_cannot_be_weighed_is_refused_before_the_first_step(pipeline):
    stepped = []
    with (
        replaced_method(pipeline.scheduler, "step", lambda *_, **__: stepped.append(1)),
        pytest.raises(ValueError, match="4 weights are needed, for 8x8, 4x4, 2x2, 1x1; got 7"),
    ):
        latents(pipeline, np.linspace(0, 1, 7))
    assert not stepped
    with pytest.raises(ValueError, match="guidance was off"):
        latents(pipeline, 0.5, guidance=1.0)
    with (
        GuidanceSchedule(pipeline, 1.0),
        pytest.raises(ValueError, match="GuidanceSchedule is open on this pipeline already"),
        GuidanceSchedule(pipeline, 1.0),
    ):
        pass


def test_the_pipeline_is_its_own_again_after_a_run_that_failed(pipeline):
    before, _ = latents(pipeline)
    with pytest.raises(ZeroDivisionError):
        latents(pipeline, lambda t: 1 / (t > 0.5))
    assert "forward" not in vars(pipeline.unet)
    assert "step" not in vars(pipeline.scheduler)
    assert torch.equal(latents(pipeline)[0], before)
