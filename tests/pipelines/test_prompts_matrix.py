"""PromptSchedule on every class of the zoo that reads text: right to the last bit, or refused in one line.

One prompt alone must give what the pipeline gives for it without the block, whatever prompt it is called with. Of a
mixture the first predictions must be the weighted sum of those that each prompt has alone.
"""

import functools
import warnings

import numpy as np
import pytest
import torch
from zoo import CASES
from zoo.matrix import CRASHED, RIGHT, WRONG, outputs
from zoo.matrix import _refusal as refusal
from zoo.texts import NEGATIVE, PROMPTS, SHORT, call_with_words, reads_text, said_by, with_words
from zoo.truth import recorded

from reschrom import PromptSchedule
from reschrom.pipelines.scheduler import schedule_of

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
# The tiny pipelines of two classes have no tokenizer, and the classes ask for one.
SILENT = ("StableAudioPipeline", "Kandinsky5T2IPipeline")
READING = [name for name, case in CASES.items() if reads_text(case) and name not in SILENT]
COMMON = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline, true CFG",
          "ZImagePipeline", "QwenImagePipeline", "LuminaPipeline", "HunyuanDiTPipeline", "HiDreamImagePipeline",
          "StableDiffusionControlNetPipeline", "StableDiffusionAdapterPipeline", "ChromaPipeline")  # fmt: skip

# Pipelines without a text, and why the others are refused, of the class or of what it is called with.
NO_TEXT = r"a diffusers pipeline is needed that reads text"
REFUSED = {
    "StableCascadePriorPipeline": "returns the encoding of its prompt for another pipeline",
    "WuerstchenPriorPipeline": "returns the encoding of its prompt for another pipeline",
    "Cosmos2TextToImagePipeline": "steps a flow at sigma = 80",
    "StableCascadeDecoderPipeline": "does not pass to its denoiser what it encoded",
}


@functools.cache
def made(name):
    return with_words(CASES[name], CASES[name].build())


def run(name, variation, prompt, negative):
    """Return what a pipeline makes, and what its denoiser predicts."""
    torch.manual_seed(0)
    with said_by(CASES[name], made(name)) as seen:
        images = made(name)(**call_with_words(CASES[name], made(name), variation, prompt, negative))
    return outputs(images), seen


def alike(one, other):
    return len(one) == len(other) and all(
        torch.equal(torch.from_numpy(a).nan_to_num(), torch.from_numpy(b).nan_to_num())
        for a, b in zip(one, other, strict=True)
    )


@functools.cache
def verdict(name, variation, prompts=PROMPTS, negative=NEGATIVE):
    first, second = prompts

    def scheduled(called, *weights):
        with PromptSchedule(made(name), list(prompts), lambda t: weights):
            return run(name, variation, called, negative)

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            PromptSchedule(made(name), list(prompts), lambda t: (1, 0))
        except (TypeError, ValueError) as error:
            return refusal(error)
        alone = [run(name, variation, prompt, negative) for prompt in prompts]
        assert not alike(alone[0][0], alone[1][0]), "the case does not hear its prompt"
        try:
            for called, weights, (images, _) in [(second, (1, 0), alone[0]), (first, (0, 1), alone[1])]:
                if not alike(scheduled(called, *weights)[0], images):
                    return WRONG + f"with the weights {weights} it is not that prompt"
            mixed = scheduled(first, 0.25, 0.75)[1][0]
        except (TypeError, ValueError) as error:
            return refusal(error)
        except Exception as error:
            return CRASHED + repr(error)
    wanted = 0.25 * alone[0][1][0] + 0.75 * alone[1][1][0]
    if not torch.allclose(mixed, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max())):
        return WRONG + "the prediction is not the weighted sum"
    return RIGHT


def is_right_or(said, *reasons):
    assert not said.startswith((WRONG, CRASHED)), said
    assert said == RIGHT or any(reason in said for reason in reasons), said


def seldom(names):
    """Mark all but the common pipelines: they wait for `make test`."""
    return [pytest.param(name, marks=() if name in COMMON else pytest.mark.slow) for name in names]


@pytest.mark.lasting
@pytest.mark.parametrize("name", seldom(name for name in READING if "default" in CASES[name].supports))
def test_a_pipeline_says_its_prompts_or_is_refused(name):
    said = verdict(name, "default")
    is_right_or(said, NO_TEXT, REFUSED.get(name, NO_TEXT))
    assert said == RIGHT or not hasattr(made(name), "encode_prompt") or name in REFUSED


@pytest.mark.lasting
@pytest.mark.parametrize("variation", ["guidance off", "four images"])
@pytest.mark.parametrize("name", COMMON)
def test_so_it_does_without_guidance_and_with_more_images(name, variation):
    is_right_or(verdict(name, variation), NO_TEXT, REFUSED.get(name, NO_TEXT))


@pytest.mark.lasting
@pytest.mark.parametrize("name", seldom(READING))
def test_the_negative_prompt_may_have_the_words_of_the_prompt(name):
    if "default" not in CASES[name].supports:
        pytest.skip("the case has no guided run of one image")
    said = verdict(name, "default", negative=PROMPTS[0])
    is_right_or(said, NO_TEXT, REFUSED.get(name, NO_TEXT), "the negative prompt is one of the prompts")
    # Two calls of one encoder cannot be told apart; one batch can.
    assert said == RIGHT or name not in COMMON or CASES[name].together is False or "Qwen" in name


FLOWS = [
    *(
        "StableDiffusion3Pipeline",
        "FluxPipeline, dynamic shift",
        "CogView4Pipeline",
        "LuminaPipeline",
        "Lumina2Pipeline",
    ),
    *("ZImagePipeline", "HiDreamImagePipeline", "AuraFlowPipeline", "WanPipeline", "MochiPipeline", "SanaPipeline"),
]


@pytest.mark.parametrize("name", FLOWS)
def test_the_weights_of_a_flow_are_asked_at_its_sigma(name):
    pipeline, case, asked = made(name), CASES[name], []
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with (
            recorded(pipeline, case, case.size) as truth,
            PromptSchedule(pipeline, ["red"], lambda t: (asked.append(t), [1.0])[1]),
        ):
            asked.clear()
            pipeline(**call_with_words(case, pipeline, "four steps", "red"))
    alphas = np.array([moment.alpha for moment in truth.moments])
    told = np.array(asked).reshape(len(alphas), -1)  # for each call of a step
    assert np.all(told == told[:, :1])
    if name.startswith("CogView4"):  # its timesteps are not shifted, its sigmas are; T is counted in timesteps
        np.testing.assert_allclose(told[:, 0], pipeline.scheduler.timesteps.double().numpy() / 1000, rtol=0, atol=1e-6)
        sigmas = pipeline.scheduler.sigmas[:-1].double().numpy()
        np.testing.assert_allclose(alphas, (1 - sigmas) ** 2 / ((1 - sigmas) ** 2 + sigmas**2), rtol=0, atol=1e-6)
        alphas = schedule_of(pipeline.scheduler).alpha(1000 * told[:, 0])
        np.testing.assert_allclose(alphas, [moment.alpha for moment in truth.moments], rtol=0, atol=1e-5)
        return
    noise, signal = np.sqrt(1 - alphas), np.sqrt(alphas)
    np.testing.assert_allclose(told[:, 0], noise / (signal + noise), rtol=0, atol=2e-5)


MASKED = [
    name
    for name in READING
    if any(key.endswith(("attention_mask", "embeds_mask")) for key in CASES[name].call(True, None, 1, 2))
    and "," not in name
]


@pytest.mark.lasting
@pytest.mark.parametrize("name", MASKED)
def test_masks_go_with_their_prompts(name):
    if "default" in CASES[name].supports:
        is_right_or(
            verdict(name, "default", (PROMPTS[0], SHORT)), NO_TEXT, "denoiser what it encoded", "different numbers of"
        )


@pytest.mark.lasting
@pytest.mark.parametrize("name", seldom(name for name in READING if name in COMMON or not CASES[name].together))
def test_prompts_of_other_lengths_are_said_or_refused(name):
    if name.startswith(("HunyuanDiT", "Krea2")):
        pytest.skip("its encodings have one length")
    variation = "guidance off" if "guidance off" in CASES[name].supports else "default"
    said = verdict(name, variation, (PROMPTS[0], f"{PROMPTS[1]} {SHORT}"))
    is_right_or(said, NO_TEXT, REFUSED.get(name, NO_TEXT), "differ in length", "it encoded")
