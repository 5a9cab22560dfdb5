"""Time-dependent prompts: one prompt alone is that prompt, several are Eq. (6), and nothing stays behind."""

import contextlib
import functools

import diffusers
import numpy as np
import pytest
import tiny
import torch
from tiny import LATENT, TEXT, embedded, generators, seeded
from transformers import CLIPTokenizer, T5Tokenizer

from reschrom import (
    Chromatogram,
    Chromatograph,
    PromptSchedule,
    UpsampleGuidance,
    by_band,
    decided_share,
    downsample,
    half_decided,
    heaviside,
    predicted_share,
    ramp,
    switch_time,
    upsample,
)

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning", "ignore:__array_wrap__ must:DeprecationWarning"
)
WORDS = "abcdef"
CLIP = CLIPTokenizer(
    vocab={"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"{word}</w>": i for i, word in enumerate(WORDS, 2)}},
    merges=[],
    model_max_length=4,
)
T5 = T5Tokenizer(vocab=[(word, -1.0) for word in ("<pad>", "</s>", "<unk>", *(f"▁{w}" for w in WORDS))], extra_ids=0)


def reading(pipeline, **components):
    """Return the pipeline with encoders and tokenizers that read single letters."""
    unchecked = {"requires_safety_checker": False} if "safety_checker" in pipeline.components else {}
    return type(pipeline)(**pipeline.components | components | unchecked)


@seeded
def deepfloyd():
    return reading(tiny.deepfloyd(), tokenizer=T5)


@seeded
def stable_diffusion():
    return reading(tiny.stable_diffusion(), tokenizer=CLIP)


@seeded
def stable_diffusion_xl():
    pipeline = tiny.stable_diffusion_xl()
    both = diffusers.UNet2DConditionModel.from_config(pipeline.unet.config, cross_attention_dim=2 * TEXT)
    return reading(pipeline, tokenizer=CLIP, tokenizer_2=CLIP, unet=both)


@seeded
def stable_diffusion_3():
    pipeline = tiny.stable_diffusion_3()
    widths = {"joint_attention_dim": 2 * TEXT, "pooled_projection_dim": 2 * TEXT}
    both = diffusers.SD3Transformer2DModel.from_config(pipeline.transformer.config, **widths)
    encoders = {"text_encoder": tiny.clip(TEXT), "text_encoder_2": tiny.clip(TEXT)}
    return reading(pipeline, tokenizer=CLIP, tokenizer_2=CLIP, transformer=both, **encoders)


@seeded
def flux():
    encoders = {"text_encoder": tiny.clip(), "text_encoder_2": tiny.t5()}
    return reading(tiny.flux(), tokenizer=CLIP, tokenizer_2=T5, **encoders)


LATENTS = {"output_type": "latent", "height": 16, "width": 16}
SETTINGS = {
    "deepfloyd": {"output_type": "pt", "clean_caption": False},
    "stable_diffusion": LATENTS,
    "stable_diffusion_xl": LATENTS,
    "stable_diffusion_3": LATENTS,
    "flux": LATENTS | {"true_cfg_scale": 3.0, "negative_prompt": "c", "max_sequence_length": 4},
}
UNGUIDED = {"flux": {"true_cfg_scale": 1.0}}
NAMES = list(SETTINGS)


@functools.cache
def made(name):
    return globals()[name]()


def run(name, prompt, pipeline=None, **settings):
    usual = {"num_inference_steps": 2, "num_images_per_prompt": 2, "generator": generators(2)}
    return (pipeline or made(name))(prompt, **(usual | SETTINGS[name] | settings)).images


def denoiser(pipeline):
    return getattr(pipeline, "unet", None) or pipeline.transformer


@contextlib.contextmanager
def outputs(pipeline):
    """Collect what the pipeline gets from its denoiser."""
    seen = []
    hook = denoiser(pipeline).register_forward_hook(lambda module, args, output: seen.append(output[0].clone()))
    yield seen
    hook.remove()


@contextlib.contextmanager
def passes(pipeline):
    """Count the passes through the denoiser, at the layer that every pass goes through once."""
    seen = []
    layer = next(m for m in denoiser(pipeline).modules() if type(m).__name__ in ("Timesteps",))
    hook = layer.register_forward_hook(lambda *_: seen.append(1))
    yield seen
    hook.remove()


def band(x, m, levels):
    """Return band m of images at full resolution, by the definition."""
    part = upsample(downsample(x, m), m)
    return part if m == levels else part - upsample(downsample(x, m + 1), m + 1)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_one_prompt_at_all_times_is_that_prompt_to_the_last_bit(name, guided):
    settings = {} if guided else UNGUIDED.get(name, {"guidance_scale": 1.0})
    pure = {prompt: run(name, prompt, **settings) for prompt in "ab"}
    assert not torch.equal(pure["a"], pure["b"])
    for called, eta, prompt in [("b", 0.0, "a"), ("a", 1.0, "b")]:
        with PromptSchedule(made(name), ["a", "b"], heaviside(eta)):
            assert torch.equal(run(name, called, **settings), pure[prompt])


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_mixed_with_itself_is_that_prompt(name):
    alone = run(name, "a")
    choices = [lambda t: (0.3, 0.7)] + ([by_band([0, 1, 1, 0])] if name != "flux" else [])
    for weights in choices:
        with PromptSchedule(made(name), ["a", "a"], weights):
            torch.testing.assert_close(run(name, "a"), alone, rtol=1e-4, atol=1e-4)
    with PromptSchedule(made(name), ["a"], by_band([0] * 4)):
        assert torch.equal(run(name, "a"), alone)


@pytest.mark.parametrize("name", NAMES)
def test_the_prediction_is_the_weighted_sum_of_those_of_the_prompts(name):
    first = {}
    for prompt in "ab":  # the first step begins with the same noise whatever the prompt
        with outputs(made(name)) as seen:
            run(name, prompt)
        first[prompt] = seen[0]
    with outputs(made(name)) as seen, PromptSchedule(made(name), ["a", "b"], lambda t: (0.25, 0.75)):
        run(name, "b")
    torch.testing.assert_close(seen[0], 0.25 * first["a"] + 0.75 * first["b"])
    assert (seen[0] - first["a"]).abs().max() > 1e-3
    if name == "flux":
        return
    with outputs(made(name)) as seen, PromptSchedule(made(name), ["a", "b"], by_band([1, 0, 1, 0])):
        run(name, "b")
    torch.testing.assert_close(seen[0], sum(band(first["ba"[m % 2]], m, 3) for m in range(4)))


@pytest.mark.lasting
@pytest.mark.parametrize("weights", [heaviside(0.4), ramp(0.9, 0.2, "cosine"), by_band([1, 1, 0, 1])])
def test_guidance_becomes_equation_6(weights):
    pipeline, g = stable_diffusion(), 4.0
    pipeline.scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    with PromptSchedule(pipeline, ["a", "b"], weights):
        composed = run("stable_diffusion", "a", pipeline, guidance_scale=g, num_inference_steps=5)

    def said(prompt):
        return pipeline.encode_prompt(prompt, "cpu", 2, False)[0]

    scheduler = pipeline.scheduler
    scheduler.set_timesteps(5)
    x = torch.stack([torch.randn(LATENT, 8, 8, generator=generator) for generator in generators(2)])
    with torch.no_grad():
        for t in scheduler.timesteps:
            alone, *conditional = (pipeline.unet(x, t, said(prompt)).sample for prompt in ("", "a", "b"))
            w = np.asarray(weights(float(t) / 1000)).reshape(2, -1)
            if w.shape[1] == 1:
                w = np.repeat(w, 4, axis=1)
            guidance = sum(w[i, m] * band(conditional[i] - alone, m, 3) for i in range(2) for m in range(4))
            x = scheduler.step(alone + g * guidance.float(), t, x).prev_sample
    torch.testing.assert_close(composed, x, rtol=1e-4, atol=1e-4)


@pytest.mark.lasting
def test_eta_is_where_the_prompts_change_and_each_step_runs_the_network_once():
    name, seen = "deepfloyd", {}
    for eta in (0.0, 0.5, 1.0):
        schedule = PromptSchedule(made(name), ["a", "b"], heaviside(eta))
        with passes(made(name)) as counted, outputs(made(name)) as each, schedule:
            run(name, "a", num_inference_steps=4)  # timesteps 750, 500, 250, 0
        assert len(counted) == 4
        seen[eta] = each
    same_as_first = [torch.equal(*pair) for pair in zip(seen[0.0], seen[0.5], strict=True)]
    assert same_as_first == [True, False, False, False]
    with passes(made(name)) as counted, PromptSchedule(made(name), ["a", "b", "c"], lambda t: (0.5, 0, 0.5)):
        run(name, "a", num_inference_steps=4)
    assert len(counted) == 8


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_asked_at_the_fractions_of_the_timesteps(name):
    asked = []
    with PromptSchedule(made(name), ["a"], lambda t: (asked.append(t), [1.0])[1]):
        asked.clear()
        run(name, "a", num_inference_steps=7)
    expected = made(name).scheduler.timesteps.double() / 1000
    assert sorted(set(asked), reverse=True) == pytest.approx(sorted(set(expected.tolist()), reverse=True), rel=1e-5)


def test_several_prompts_in_one_call_and_several_calls_in_one_block():
    pure = run("deepfloyd", ["b", "b"], num_images_per_prompt=1)
    with PromptSchedule(made("deepfloyd"), ["a", "b"], heaviside(1.0)):
        for prompts in (["a", "a"], ["a", "b"]):
            assert torch.equal(run("deepfloyd", prompts, num_images_per_prompt=1), pure)


def test_each_image_of_a_call_may_have_its_own_prompts():
    firsts, seconds, settings = ["a", "b"], ["b", "ab"], {"num_images_per_prompt": 1, "num_inference_steps": 4}
    with PromptSchedule(made("deepfloyd"), [firsts, seconds], heaviside(0.5)):
        together = run("deepfloyd", firsts, **settings)
    for number, pair in enumerate(zip(firsts, seconds, strict=True)):
        with PromptSchedule(made("deepfloyd"), pair, heaviside(0.5)):
            alone = run("deepfloyd", pair[0], **settings | {"generator": generators(2)[number]})
        # Convolutions round otherwise in batches of another size, a few parts in a million at each of four steps.
        torch.testing.assert_close(together[[number]], alone, rtol=0, atol=4e-5)
    assert not torch.allclose(together, run("deepfloyd", firsts, **settings), atol=1e-3)
    with pytest.raises(ValueError, match=r"one text for each image; got lists of \[1, 2\] texts"):
        PromptSchedule(made("deepfloyd"), [["a"], ["a", "b"]], heaviside(0.5))


@pytest.mark.parametrize(("first", "negative"), [("a", {"negative_prompt": "a"}), ("", {})])
def test_a_prompt_that_is_also_the_negative_one_is_told_apart(first, negative):
    pure = run("stable_diffusion", "b", **negative)
    with PromptSchedule(made("stable_diffusion"), [first, "b"], heaviside(1.0)):
        assert torch.equal(run("stable_diffusion", first, **negative), pure)


def test_the_chromatograph_sees_what_the_prompts_say_together():
    pipeline = made("deepfloyd")
    schedule = PromptSchedule(pipeline, ["a", "b"], ramp(1.0, 0.0))
    with outputs(pipeline) as seen, schedule, Chromatograph(pipeline, keep="bands") as meter:
        run("deepfloyd", "a")
    for output, record in zip(seen, meter.kept, strict=True):
        unconditional, conditional = output[:, :3].chunk(2)
        np.testing.assert_allclose(record.guidance, conditional - unconditional, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_stays_behind(name):
    pipeline = globals()[name]()
    network = denoiser(pipeline)
    run(name, "a", pipeline, num_inference_steps=1)  # some pipelines note something at their first run
    before = set(vars(pipeline)), {**vars(network)}
    with PromptSchedule(pipeline, ["a", "b"], heaviside(0.5)):
        assert vars(network)["forward"]
        run(name, "a", pipeline, num_inference_steps=1)
    with pytest.raises(RuntimeError, match="stop"), PromptSchedule(pipeline, ["a", "b"], heaviside(0.5)):
        raise RuntimeError("stop")
    assert vars(network) == before[1]
    assert set(vars(pipeline)) == before[0]
    own = network.forward = lambda *args, **kwargs: type(network).forward(network, *args, **kwargs)
    functools.update_wrapper(own, type(network).forward.__get__(network))
    with PromptSchedule(pipeline, ["a"], by_band([0])):
        run(name, "a", pipeline, num_inference_steps=1)
    assert network.forward is own


@pytest.mark.parametrize(
    ("prompts", "weights", "message"),
    [
        ("ab", lambda t: (0.5, 0.6), r"must sum to one; at t/T = 1 they are \[\[0\.5\], \[0\.6\]\]"),
        ("ab", lambda t: (float("nan"), 0.6), r"must sum to one"),
        ("ab", lambda t: [[1, 0], [0.5, 0.5]], r"must sum to one"),
        ("abc", heaviside(0.5), r"each of the 3 prompts needs a weight; got 2"),
        ("ab", by_band([0, 1, 2, 0]), r"each of the 2 prompts needs a weight; got 3"),
    ],
)
def test_weights_that_do_not_fit_the_prompts_are_refused(prompts, weights, message):
    with pytest.raises(ValueError, match=message):
        PromptSchedule(made("deepfloyd"), [*prompts], weights)


def test_weights_that_stop_to_sum_to_one_are_refused_at_that_time():
    schedule = PromptSchedule(made("deepfloyd"), ["a", "b"], lambda t: (t > 0.5, 0))
    with pytest.raises(ValueError, match=r"at t/T = 0\.333 they are"), schedule:
        run("deepfloyd", "a", num_inference_steps=3)


@pytest.mark.parametrize(
    ("build", "values", "message"),
    [
        (heaviside, (1.1,), r"switch is a fraction of the last time and lies in \[0, 1\]; got 1\.1"),
        (heaviside, (float("nan"),), r"lies in \[0, 1\]; got nan"),
        (ramp, (2.0, 0.0), r"start is a fraction"),
        (ramp, (1.0, -1.0), r"end is a fraction"),
        (ramp, (0.2, 0.8), r"starts at a larger t than it ends; got 'linear' from 0\.2 to 0\.8"),
        (ramp, (0.8, 0.2, "cubic"), r"\"linear\" or \"cosine\", .* got 'cubic'"),
    ],
)
def test_times_that_cannot_be_are_refused(build, values, message):
    with pytest.raises(ValueError, match=message):
        build(*values)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deepfloyd", r"^4 weights are needed, for 8x8, 4x4, 2x2, 1x1; got 3"),
        ("flux", r"need predictions of the shape \(N, C, H, W\); the denoiser's have \("),
    ],
)
def test_bands_that_the_images_do_not_have_are_refused(name, message):
    schedule = PromptSchedule(made(name), ["a", "b"], by_band([0, 1, 0]))
    with pytest.raises(ValueError, match=message), schedule:
        run(name, "a")


def test_one_text_is_not_several():
    with pytest.raises(TypeError, match=r"a list of prompts is needed, such as \['ab'\]; got one text"):
        PromptSchedule(made("deepfloyd"), "ab", heaviside(0.5))


def test_a_network_is_taken_over_by_one_schedule_at_a_time_and_not_before_its_block():
    pipeline = made("stable_diffusion")
    before, schedule = {**vars(pipeline.unet)}, PromptSchedule(pipeline, ["a", "b"], heaviside(0.5))
    assert vars(pipeline.unet) == before
    with schedule:
        for other in (schedule, PromptSchedule(pipeline, ["a"], by_band([0]))):
            with pytest.raises(ValueError, match="PromptSchedule is open on this pipeline already"):
                other.__enter__()
        run("stable_diffusion", "a", num_inference_steps=1)
    assert vars(pipeline.unet) == before


@pytest.mark.lasting
@pytest.mark.parametrize("name", ["deepfloyd", "stable_diffusion", "stable_diffusion_xl"])
def test_upsample_guidance_guides_what_the_prompts_say_together(name):
    pipeline, first = made(name), {}
    pipeline.scheduler.register_to_config(clip_sample=False)
    guidance, weights = UpsampleGuidance(pipeline, theta=1.2), (0.25, 0.75)
    schedule = PromptSchedule(pipeline, ["a", "b"], lambda t: weights)
    for prompt in "ab":
        with outputs(pipeline) as seen, guidance:
            run(name, prompt)
        first[prompt] = seen[0]
    with outputs(pipeline) as seen, guidance, schedule:
        run(name, "a")
    torch.testing.assert_close(seen[0], 0.25 * first["a"] + 0.75 * first["b"])
    with outputs(pipeline) as seen, schedule:
        run(name, "a")
    assert (seen[0] - 0.25 * first["a"] - 0.75 * first["b"]).abs().max() > 1e-3
    with schedule, pytest.raises(ValueError, match="PromptSchedule belongs inside the block of UpsampleGuidance"):
        guidance.__enter__()


@pytest.mark.parametrize("name", ["stable_diffusion", "flux"])
def test_a_run_that_failed_leaves_nothing_behind(name):
    pipeline, pure = made(name), run(name, "b")

    def stop(pipe, step, timestep, tensors):
        raise RuntimeError("stop")

    with PromptSchedule(pipeline, ["a", "b"], heaviside(1.0)):
        with pytest.raises(RuntimeError, match="stop"):
            run(name, "a", callback_on_step_end=stop)
        with pytest.raises(ValueError, match="generators"):  # between its encoding and its first prediction
            run(name, "a", generator=generators(3))
        assert torch.equal(run(name, "a"), pure)


def test_a_negative_prompt_of_a_call_of_its_own_is_no_prompt_of_the_schedule():
    with PromptSchedule(made("flux"), ["a", "b"], heaviside(0.5)):
        for negative in "ab":
            with pytest.raises(ValueError, match="the negative prompt is one of the prompts"):
                run("flux", "a", negative_prompt=negative)
        run("flux", "a")


def test_a_denoiser_that_was_taken_over_in_the_block_is_refused():
    pipeline = stable_diffusion()
    pipeline.unet.forward = functools.update_wrapper(lambda *args, **kwargs: 0, pipeline.unet.forward)  # as offloading
    with PromptSchedule(pipeline, ["a", "b"], heaviside(0.5)):
        pipeline.unet.forward = type(pipeline.unet).forward.__get__(pipeline.unet)
        with pytest.raises(ValueError, match="took the denoiser over"):
            run("stable_diffusion", "a", pipeline)


@pytest.mark.parametrize("name", ["stable_diffusion", "flux"])
def test_the_chromatograph_may_be_opened_first_or_last(name):
    pipeline, kept = made(name), []
    settings = {"num_images_per_prompt": 1, "generator": generators(1)[0]}
    for order in (1, -1):
        meter = Chromatograph(pipeline, keep="bands")
        schedule = PromptSchedule(pipeline, ["a", "b"], lambda t: (0.25, 0.75))
        with contextlib.ExitStack() as stack:
            for block in (meter, schedule)[::order]:
                stack.enter_context(block)
            run(name, "a", **settings | {"generator": generators(1)[0]})
        kept.append(meter.kept)
    for one, other in zip(*kept, strict=True):
        np.testing.assert_array_equal(one.guidance, other.guidance)


def test_a_control_net_reads_every_prompt():
    pipeline = stable_diffusion()
    control = diffusers.ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=(4, 8))
    for parameter in control.parameters():  # it begins with zeros
        torch.nn.init.normal_(parameter, std=0.1)
    unchecked = {"requires_safety_checker": False}
    parts = pipeline.components | {"controlnet": control} | unchecked
    pipeline = diffusers.StableDiffusionControlNetPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    picture = {"image": torch.rand(1, 3, 16, 16, generator=generators(1)[0])}
    pure = {prompt: run("stable_diffusion", prompt, pipeline, **picture) for prompt in "ab"}
    assert not torch.equal(pure["a"], pure["b"])
    for weights, called, said in [((1, 0), "b", "a"), ((0, 1), "a", "b")]:
        with PromptSchedule(pipeline, ["a", "b"], lambda t, weights=weights: weights):
            assert torch.equal(run("stable_diffusion", called, pipeline, **picture), pure[said])


def test_a_denoiser_that_is_told_no_time_is_refused():
    pipeline = stable_diffusion()
    pipeline.unet.forward = lambda sample, hour, **kwargs: sample
    with (
        PromptSchedule(pipeline, ["a", "b"], heaviside(0.5)),
        pytest.raises(ValueError, match="StableDiffusionPipeline is told no time"),
    ):
        run("stable_diffusion", "a", pipeline)


def test_what_the_pipeline_makes_of_the_encoding_is_refused():
    pipeline = stable_diffusion()
    original = pipeline.encode_prompt

    def halved(*args, **kwargs):
        pipeline.unet.register_forward_pre_hook(
            lambda module, args, kwargs: (
                args,
                kwargs | {"encoder_hidden_states": kwargs["encoder_hidden_states"] / 2},
            ),
            with_kwargs=True,
        )
        return original(*args, **kwargs)

    pipeline.encode_prompt = functools.wraps(original)(halved)
    with (
        PromptSchedule(pipeline, ["a", "b"], heaviside(0.5)),
        pytest.raises(ValueError, match=r"does not pass to its denoiser what it encoded.* \[\(2, 4, 8\)\]"),
    ):
        run("stable_diffusion", "a", pipeline)


SCHEDULERS = {
    "DDIM": lambda: diffusers.DDIMScheduler(clip_sample=False),
    "Euler Karras": lambda: diffusers.EulerDiscreteScheduler(use_karras_sigmas=True),
    "DPM++ Karras": lambda: diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True),
    "EDM": lambda: diffusers.EDMEulerScheduler(),
    "DPM2 ancestral": lambda: diffusers.KDPM2AncestralDiscreteScheduler(),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_time_of_the_weights_is_that_of_the_noise_in_the_images(name):
    pipeline, asked, noises = stable_diffusion(), [], []
    scheduler = pipeline.scheduler = SCHEDULERS[name]()
    scaled = scheduler.scale_model_input

    def seen(sample, timestep):
        shown = scaled(sample, timestep)
        ratio = float(sample.norm() / shown.norm())  # the square root of sigma^2 + 1, or of sigma^2 + sigma_data^2
        noises.append(ratio**2 - (scheduler.config.get("sigma_data") or 1) ** (2 if name == "EDM" else 1))
        return shown

    with PromptSchedule(pipeline, ["a"], lambda t: (asked.append(t), [1.0])[1]):
        asked.clear()
        scheduler.scale_model_input = seen
        run("stable_diffusion", "a", pipeline, num_inference_steps=6, guidance_scale=1.0)
    if name in ("DDIM", "DPM++ Karras"):  # they scale nothing, and are told whole timesteps
        np.testing.assert_allclose(asked, scheduler.timesteps[: len(asked)].double().numpy() / 1000, rtol=0, atol=1e-3)
        return
    sigmas = np.sqrt(np.maximum(noises, 0))
    if name == "EDM":  # its time is no count: the logarithm of sigma
        ends = np.log([scheduler.config.sigma_min, scheduler.config.sigma_max])
        np.testing.assert_allclose(asked, (np.log(sigmas) - ends[0]) / (ends[1] - ends[0]), rtol=0, atol=1e-3)
        return
    table = scheduler.alphas_cumprod.double().numpy()
    wanted = np.interp(np.log(sigmas), 0.5 * np.log(1 / table - 1), np.arange(1000)) / 1000
    np.testing.assert_allclose(asked, wanted, rtol=0, atol=1e-4)


def test_a_pipeline_without_text_is_refused():
    with pytest.raises(TypeError, match=r"that reads text .* got DDIMPipeline"):
        PromptSchedule(tiny.ddim(), ["a"], lambda t: [1.0])


@pytest.mark.parametrize("name", ["deepfloyd", "flux"])
def test_a_call_without_a_prompt_of_the_schedule_is_refused(name):
    with PromptSchedule(made(name), ["a", "b"], heaviside(0.5)):
        for _ in range(2):
            with pytest.raises(ValueError, match=r"called with one of its prompts, as text; .* \['a', 'b'\]"):
                run(name, "c")
            run(name, "a")


def test_ramps_go_from_the_first_prompt_to_the_second():
    times = np.linspace(1, 0, 21)
    for kind in ("linear", "cosine"):
        first, second = np.array([ramp(0.8, 0.4, kind)(float(t)) for t in times]).T
        assert np.all(first[times >= 0.8] == 1)
        np.testing.assert_allclose(second[times <= 0.4 + 1e-9], 1)
        assert np.all(np.diff(second) >= 0)
        assert second[8] == pytest.approx(0.5)  # at t = 0.6
        assert second[6] == pytest.approx(0.25 if kind == "linear" else (1 - 0.5**0.5) / 2)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).normal(size=(3, 5, 3, 8, 8)) * np.arange(1, 6)[:, None, None, None]


def test_the_decided_share_is_that_of_the_second_prompt_in_each_band(pictures):
    a, b, other = pictures
    assert decided_share(a, a, b).share == pytest.approx(np.zeros(4), abs=1e-12)
    assert decided_share(b, a, b).share == pytest.approx(np.ones(4))
    shares = [0.9, 0.6, 0.2, -0.1]
    between = sum((1 - s) * band(a, m, 3) + s * band(b, m, 3) for m, s in enumerate(shares))
    measured = decided_share(between, a, b)
    assert measured.share == pytest.approx(shares)
    np.testing.assert_allclose(measured.replicates, np.tile(shares, (len(measured.replicates), 1)))
    # The rest of a third image counts as its projection, images by their energy.
    moved, apart = [band(x - a, 1, 3).reshape(5, -1) for x in (other, b)]
    inner, norm = (moved * apart).sum(axis=1), (apart * apart).sum(axis=1)
    measured = decided_share(other, a, b)
    assert measured.share[1] == pytest.approx((inner / norm * norm / norm.sum()).sum())
    drawn = np.random.default_rng(1).integers(5, size=(4000, 5))
    resampled = inner[drawn].sum(axis=1) / norm[drawn].sum(axis=1)
    assert measured.replicates[:, 1].std() == pytest.approx(resampled.std(), rel=0.3)


def test_images_that_do_not_differ_have_no_share():
    a = np.zeros((2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"differ in every band; they are the same in 8x8"):
        decided_share(a, a, a + 1)


SIGNAL = np.array([[9.0, 4.0, 1.0, 1.0], [8.0, 8.0, 6.0, 4.0], [5.0, 5.0, 5.0, 5.0]])
EDGES = np.array([0.0, 200.0, 600.0, 900.0])


def test_the_predicted_share_is_what_grows_after_the_switch():
    chromatogram = Chromatogram.from_signal(SIGNAL, EDGES, 4, "growth")
    etas = np.array([0.0, 0.2, 0.4, 0.6, 0.9, 1.0])
    expected = [[0, 5 / 8, 6.5 / 8, 1, 1, 1], [0, 0, 0.25, 0.5, 1, 1], [0] * 6]
    np.testing.assert_allclose(predicted_share(chromatogram, etas, 1000.0), expected)
    with pytest.raises(ValueError, match=r"switch .* got 1\.5"):
        predicted_share(chromatogram, np.array([0.5, 1.5]), 1000.0)


def test_half_decided_is_where_the_share_passes_one_half():
    etas = np.array([0.0, 0.5, 0.8, 1.0])
    shares = np.array([[0.0, 0.6, 0.4, 1.0], [0.0, 0.2, 0.4, 1.0], [0.0, 0.5, 0.9, 1.0]])
    np.testing.assert_allclose(half_decided(etas, shares), [0.5 / 1.2, 0.8 + 0.2 / 6, 0.5])
    for wrong in ([0.6, 0.7, 0.8, 0.9], [0.0, 0.1, 0.2, 0.3]):
        with pytest.raises(ValueError, match="rise through one half"):
            half_decided(etas, np.array([wrong]))


def test_the_switch_is_the_first_moment_at_which_all_coarser_bands_are_made():
    chromatogram = Chromatogram.from_signal(SIGNAL, EDGES, 4, "growth")
    assert switch_time(chromatogram, 4) == 200.0
    assert switch_time(chromatogram, 4, kept=0.5) == 600.0
    assert switch_time(chromatogram, 2) == 900.0
    for wrong in (1, 3, 8):
        with pytest.raises(ValueError, match=rf"one of 4x4, 2x2; got {wrong}x{wrong}"):
            switch_time(chromatogram, wrong)


@pytest.mark.lasting
def test_a_compiled_network_is_mixed_like_the_plain_one():
    torch.compiler.reset()
    pipeline = tiny.stable_diffusion(scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False))

    def encode_prompt(prompt, *_, **__):
        return embedded(len(prompt)), embedded(99)

    pipeline.encode_prompt = encode_prompt

    def drawn(prompt):
        generator = torch.Generator().manual_seed(0)
        return pipeline(prompt, num_inference_steps=3, output_type="latent", generator=generator).images

    plain = [drawn(prompt) for prompt in ("ab", "abc")]
    pipeline.unet = torch.compile(pipeline.unet, backend="eager")
    for switch, expected in zip((0.0, 1.0), plain, strict=True):
        with PromptSchedule(pipeline, ["ab", "abc"], heaviside(switch)):
            np.testing.assert_allclose(drawn("ab"), expected, rtol=1e-5, atol=1e-5)
