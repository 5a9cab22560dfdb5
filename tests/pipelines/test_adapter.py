"""Trained networks as denoisers: each prediction type means the same image and noise; pipelines are driven."""

import math
from typing import Any

import diffusers
import numpy as np
import pytest
import tiny
import torch
from transformers import CLIPTokenizer, T5Tokenizer

from reschrom import Schedule
from reschrom.pipelines.adapter import estimate_and_noise, estimate_precision, network_denoiser

TYPES = ("epsilon", "sample", "v_prediction", "flow_prediction")
SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}


def output_and_input(
    x_0: torch.Tensor, noise: torch.Tensor, alpha: float, prediction_type: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a perfect network of this type says, and what it is given."""
    a, b = math.sqrt(alpha), math.sqrt(1 - alpha)
    x_t, sigma = a * x_0 + b * noise, b / (a + b)
    says = {"epsilon": noise, "sample": x_0, "v_prediction": a * noise - b * x_0, "flow_prediction": noise - x_0}
    return says[prediction_type], (1 - sigma) * x_0 + sigma * noise if prediction_type == TYPES[-1] else x_t


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((5, 3, 8, 8))


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("alpha", [1e-6, 0.3, 0.9999])
def test_every_prediction_type_means_the_same_image_and_noise(prediction_type, alpha):
    x_0, noise = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    output, x_t = output_and_input(x_0, noise, alpha, prediction_type)
    for learned in (output, torch.cat([output, torch.full_like(output, 9.0)], dim=1)):  # with a variance behind it
        found = estimate_and_noise(learned, x_t, alpha, prediction_type)
        for tensor, expected in zip(found, (x_0, noise), strict=True):
            torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-9)


def test_half_precision_becomes_single():
    x_t = torch.ones(1, 1, 2, 2, dtype=torch.float16)
    estimate, noise = estimate_and_noise(0 * x_t, x_t, 1e-10, "epsilon")
    assert (estimate.dtype, noise.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(estimate, torch.full((1, 1, 2, 2), 1e5))  # more than half precision holds


def test_another_prediction_type_is_refused():
    with pytest.raises(ValueError, match=r"predicts epsilon, .*; this one predicts score"):
        estimate_and_noise(torch.ones(1, 1), torch.ones(1, 1), 0.5, "score")


def test_precision_is_what_an_error_of_the_output_does_to_the_energy():
    alpha = np.array([0.01, 0.5, 0.99])
    np.testing.assert_allclose(estimate_precision(alpha, "epsilon"), alpha**2, rtol=1e-5)
    np.testing.assert_allclose(estimate_precision(alpha, "v_prediction"), 1 / (2 - alpha) ** 2, rtol=1e-5)
    np.testing.assert_allclose(estimate_precision(alpha, "sample"), 0.25, rtol=1e-5)


@pytest.mark.parametrize("prediction_type", TYPES[:3])
def test_an_unconditional_pipeline_is_its_network_at_the_time_of_its_schedule(images, prediction_type):
    scheduler = diffusers.DDIMScheduler(**SCHEDULE, prediction_type=prediction_type)
    pipeline = tiny.ddim(scheduler=scheduler)
    alpha = float(scheduler.alphas_cumprod[400])
    with torch.no_grad():
        output = pipeline.unet(torch.tensor(images, dtype=torch.float32), 400)[0]
    expected, _ = estimate_and_noise(output, torch.tensor(images), alpha, prediction_type)
    denoise = network_denoiser(pipeline)
    np.testing.assert_allclose(denoise(images, alpha), expected, rtol=0, atol=1e-5)
    assert denoise(images, alpha).dtype == np.float64
    for batch in (1, 2):
        np.testing.assert_allclose(network_denoiser(pipeline, batch=batch)(images, alpha), expected, atol=1e-5)


def test_between_the_first_timestep_and_the_image_the_estimate_becomes_the_image(images):
    denoise = network_denoiser(tiny.ddpm(scheduler=diffusers.DDPMScheduler(**SCHEDULE)))
    np.testing.assert_array_equal(denoise(images, 1.0), images)
    assert np.abs(denoise(images, 1 - 1e-6) - images).max() < 0.01


def test_estimates_are_clipped_where_the_scheduler_clips_them(images):
    schedulers = (diffusers.DDIMScheduler(clip_sample=clip, clip_sample_range=0.5) for clip in (False, True))
    free, clipped = (network_denoiser(tiny.ddim(scheduler=each))(images, 0.1) for each in schedulers)
    assert np.abs(free).max() > 1
    np.testing.assert_allclose(clipped, np.clip(free, -0.5, 0.5), rtol=1e-12)


def deepfloyd() -> Any:
    pipeline = tiny.deepfloyd()
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0), ("▁cat", -1.0), ("▁dog", -1.0)]
    pipeline.tokenizer = T5Tokenizer(vocab=words, extra_ids=0, model_max_length=77)
    return pipeline


def stable_diffusion() -> Any:
    pipeline = tiny.stable_diffusion()
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "cat</w>": 2, "dog</w>": 3}
    letters = {letter: 4 + index for index, letter in enumerate("catdog") if letter not in words}
    pipeline.tokenizer = CLIPTokenizer(vocab={**words, **letters}, merges=[], model_max_length=4)
    return pipeline


@pytest.mark.parametrize(("build", "channels"), [(deepfloyd, 3), (stable_diffusion, 4)])
def test_a_pipeline_that_reads_prompts_is_its_network_with_the_prompt_encoded(build, channels):
    pipeline, images = build(), np.random.default_rng(1).standard_normal((3, channels, 8, 8))
    schedule = Schedule.from_diffusers(pipeline.scheduler)
    embedded, _ = pipeline.encode_prompt(
        prompt="cat", device="cpu", num_images_per_prompt=3, do_classifier_free_guidance=False
    )
    alpha = float(schedule.alpha(300.0))
    with torch.no_grad():
        output = pipeline.unet(torch.tensor(images, dtype=torch.float32), 300, embedded)[0]
    expected, _ = estimate_and_noise(output, torch.tensor(images), alpha, "epsilon")
    if pipeline.scheduler.config.get("clip_sample"):
        expected = expected.clip(-1, 1)
    np.testing.assert_allclose(network_denoiser(pipeline, "cat", batch=2)(images, alpha), expected, rtol=0, atol=1e-4)
    empty, none = (network_denoiser(pipeline, prompt)(images, alpha) for prompt in ("", None))
    np.testing.assert_array_equal(empty, none)
    assert np.abs(empty - np.asarray(expected)).max() > 1e-5
    each = network_denoiser(pipeline, ["cat", "", "cat"], batch=2)
    mixed = np.where([[[[True]]], [[[False]]], [[[True]]]], expected, empty)
    np.testing.assert_allclose(each(images, alpha), mixed, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="one for each image of a batch is needed; got 3 for 2 images"):
        each(images[:2], alpha)


def test_a_pipeline_that_must_be_told_more_is_refused():
    with pytest.raises(TypeError, match=r"`unet` sees the noised image, .* got StableDiffusionXLPipeline"):
        network_denoiser(tiny.stable_diffusion_xl())


@pytest.mark.parametrize(
    "told", [{"class_embed_type": "timestep"}, {"num_class_embeds": 3}, {"out_channels": 9}], ids=str
)
def test_a_network_that_is_told_a_class_or_sees_other_channels_is_refused(told):
    pipeline = tiny.ddim()
    pipeline.unet.register_to_config(**told)
    with pytest.raises(TypeError, match=r"the time and at most a prompt, .* got DDIMPipeline"):
        network_denoiser(pipeline)


@pytest.mark.parametrize("build", [tiny.pixart, tiny.stable_diffusion_3, tiny.flux])
def test_a_pipeline_without_a_unet_is_refused(build):
    pipeline = build()
    with pytest.raises(TypeError, match=f"a denoiser, `unet`, and a `scheduler`; got {type(pipeline).__name__}"):
        network_denoiser(pipeline)


def test_an_unconditional_pipeline_reads_no_prompt():
    with pytest.raises(ValueError, match="DDIMPipeline is unconditional and reads no prompt; got 'cat'"):
        network_denoiser(tiny.ddim(), "cat")
