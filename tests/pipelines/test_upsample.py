"""Upsample Guidance: exact where detail is independent, the authors' formula, every pipeline, nothing left behind."""

import contextlib
import functools
import re

import diffusers
import numpy as np
import pytest
import tiny
import torch
from tiny import LATENT, embedded, exact, generators

from reschrom import (
    Chromatograph,
    GaussianField,
    GaussianMixture,
    Schedule,
    UpsampleGuidance,
    coarse_correction,
    downsample,
    intensity_scale,
    matched_alpha,
    matched_time,
    upsample,
)

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PREDICTIONS = ("epsilon", "sample", "v_prediction")
NAMES = ("deepfloyd", "stable_diffusion", "stable_diffusion_xl", "ddpm", "ddim")
LATENTS = {"output_type": "latent", "height": 16, "width": 16}


@functools.cache
def made(name):
    pipeline = getattr(tiny, name)()
    if name == "deepfloyd":
        pipeline.scheduler.register_to_config(clip_sample=False)
    return pipeline


def told(name, count):
    """Return what the pipeline is called with instead of words: unconditional and conditional."""
    text = {"prompt_embeds": embedded(1, count), "negative_prompt_embeds": embedded(2, count)}
    match name:
        case "deepfloyd":
            return text | {"output_type": "pt"}
        case "stable_diffusion":
            return text | LATENTS
        case "stable_diffusion_xl":
            pooled = {f"{which}pooled_prompt_embeds": embedded(3, count, 1)[:, 0] for which in ("", "negative_")}
            return text | LATENTS | pooled
    return {"batch_size": count, "output_type": "np"}


def run(name, pipeline=None, **settings):
    usual = {"num_inference_steps": 2, "generator": generators(2)}
    images = (pipeline or made(name))(**(usual | told(name, 2) | settings)).images
    return np.asarray(images)


@contextlib.contextmanager
def passes(pipeline):
    """Collect the times of the passes through the network, at the layer that every pass goes through once."""
    seen = []
    layer = next(m for m in pipeline.unet.modules() if type(m).__name__ == "Timesteps")
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(float(args[0].flatten()[0])))
    yield seen
    hook.remove()


class BySize:
    """A different denoiser for each size of images."""

    def __init__(self, **denoisers):
        self.denoisers = {int(name[1:]): denoiser for name, denoiser in denoisers.items()}

    def denoise(self, x_t, alpha):
        return self.denoisers[x_t.shape[-1]](x_t, alpha)


def halved(field):
    """Return the field of the images of a field, halved: the mean of four pixels has a quarter of the variance."""
    return GaussianField(field.spectrum[1:] / 4, downsample(field.mean))


GENERATOR = np.random.default_rng(0)
MEANS = [upsample(GENERATOR.normal(size=(3, 4, 4))) for _ in range(2)]
# The classes differ in what is coarse and share the distribution of the detail.
ALIKE = [GaussianField([0.1, *coarse], mean) for coarse, mean in zip(([1, 2, 9], [4, 1, 2]), MEANS, strict=True)]
# These differ in the detail too, so that it tells of the class.
APART = [GaussianField([0.1, 1, 2, 9]), GaussianField([2, 2, 1, 9])]
DISTRIBUTIONS = {
    "field": (ALIKE[0], halved(ALIKE[0])),
    "mixture": (GaussianMixture(ALIKE), GaussianMixture([halved(field) for field in ALIKE])),
    "dependent": (GaussianMixture(APART), GaussianMixture([halved(field) for field in APART])),
}


def mistaken(large):
    """Return an exact denoiser whose coarse part has been made wrong."""
    return lambda x, alpha: large.denoise(x, alpha) + upsample(np.sin(3 * downsample(x)))


def errors(kind, prediction, timestep):
    """Return the largest errors of a network whose coarse part is wrong, alone and with Upsample Guidance."""
    large, low = DISTRIBUTIONS[kind]
    pipeline = exact(BySize(_8=mistaken(large), _4=low.denoise), prediction)
    pipeline.unet.register_to_config(out_channels=3)
    alpha = float(Schedule.from_diffusers(pipeline.scheduler).alpha(timestep))
    generator, t = np.random.default_rng(timestep), torch.tensor(timestep)
    x_0 = large.sample(20, generator)
    x_t = torch.from_numpy(np.sqrt(alpha) * x_0 + np.sqrt(1 - alpha) * generator.standard_normal(x_0.shape)).float()
    right, alone = exact(large, prediction).unet(x_t, t).sample, pipeline.unet(x_t, t).sample
    with UpsampleGuidance(pipeline):
        guided = pipeline.unet(x_t, t).sample
    return [float((each - right).abs().max()) for each in (alone, guided)]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", ["field", "mixture"])
def test_a_wrong_coarse_part_becomes_the_exact_one_where_the_detail_is_independent(kind, prediction):
    for timestep in (100, 300, 700):
        alone, guided = errors(kind, prediction, timestep)
        assert alone > 1e-2
        assert guided < 1e-5


def test_it_stays_wrong_where_the_detail_tells_of_what_is_coarse():
    assert errors("dependent", "epsilon", 500)[1] > 1e-2


def averaged(x, scale):
    count, channels, height, width = x.shape
    return x.reshape(count, channels, height // scale, scale, width // scale, scale).mean(axis=(-3, -1))


def wiener(variance, alpha, noise):
    return np.sqrt(alpha) * variance / (alpha * variance + noise)


def test_the_scale_need_not_be_a_power_of_two():
    scale, alpha, coarse, fine = 3, 0.4, 2.0, 0.3  # variances of the low-resolution image and of the detail
    x_t, wrong = np.random.default_rng(0).standard_normal((2, 2, 1, 9, 6))
    low, block = averaged(x_t, scale), np.ones((scale, scale))
    detail = wiener(fine, alpha, 1 - alpha) * (x_t - np.kron(low, block))
    # nine pixels together have a ninth of the noise
    right = np.kron(wiener(coarse, alpha, (1 - alpha) / 9) * low, block) + detail
    wrong = detail + np.kron(averaged(wrong, scale), block)
    correction = coarse_correction(lambda x, a: wiener(coarse, a, 1 - a) * x, x_t, wrong, alpha, scale)
    np.testing.assert_allclose(wrong + correction, right, rtol=0, atol=1e-12)


@pytest.mark.lasting
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scale", [2, 4])
def test_it_is_the_formula_of_its_authors(scale, prediction):
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type="learned_range", prediction_type=prediction
    )
    pipeline = tiny.deepfloyd(scheduler=scheduler)
    unet, schedule, theta = pipeline.unet, Schedule.from_diffusers(pipeline.scheduler), 1.3
    level = scale // 2
    x, text = torch.randn(2, 3, 16, 8, generator=generators(1)[0]), embedded(0, 2)

    def noise(x, t):
        said, alpha = unet(x, t, text).sample[:, :3], float(schedule.alpha(float(t)))
        return said if prediction == "epsilon" else alpha**0.5 * said + (1 - alpha) ** 0.5 * x

    for t in (60, 400, 998):
        alpha, tau = float(schedule.alpha(t)), matched_time(schedule, t, level)
        with torch.no_grad():
            plain, eps = unet(x, t, text).sample, noise(x, torch.tensor(t))
            low = noise(float(intensity_scale(alpha, level)) * downsample(x, level), torch.tensor(float(tau)))
            with UpsampleGuidance(pipeline, scale, theta):
                guided = unet(x, t, text).sample
                mine = noise(x, torch.tensor(t))
        wanted = eps + theta * upsample(low / scale - downsample(eps, level), level)
        assert tau != int(tau)
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=2e-5)
        assert t > 400 or (mine - eps).abs().max() > 1e-2
        assert torch.equal(guided[:, 3:], plain[:, 3:])  # the learned variance


def test_the_network_is_told_the_time_and_shown_the_intensity_of_chromatography():
    seen, alpha = [], 0.3
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    for level in (1, 2):
        coarse_correction(lambda *given: seen.append(given) or given[0], x, x, alpha, 2**level)
        np.testing.assert_allclose(seen[-1][0], intensity_scale(alpha, level) * downsample(x, level))
        assert seen[-1][1] == pytest.approx(matched_alpha(alpha, level))


@pytest.mark.lasting
@pytest.mark.parametrize("name", NAMES)
def test_every_pipeline_is_guided_and_given_back(name):
    pipeline = made(name)
    with passes(pipeline) as times:
        before = run(name)
    attributes = {**vars(pipeline.unet)}
    with UpsampleGuidance(pipeline) as guidance, passes(pipeline) as twice:
        guided = run(name)
        assert np.array_equal(run(name), guided)
    assert np.all(np.isfinite(guided))
    assert np.abs(guided - before).max() > 1e-3
    assert twice[: 2 * len(times) : 2] == times
    low = np.array(twice[1 : 2 * len(times) : 2])
    assert np.all((low < times) | (low == 0))
    with pytest.raises(RuntimeError, match="stop"), guidance:
        raise RuntimeError("stop")
    assert vars(pipeline.unet) == attributes
    assert np.array_equal(run(name), before)


@pytest.mark.parametrize("settings", [{"theta": 0.0}, {"share": 0.0}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_without_weight_nothing_changes(name, settings):
    with passes(made(name)) as times:
        before = run(name)
    with passes(made(name)) as again, UpsampleGuidance(made(name), **settings):
        assert np.array_equal(run(name), before)
    assert again == times


@pytest.mark.parametrize(("share", "guided"), [(1.0, 4), (0.75, 3), (0.5, 2), (0.49, 1), (0.2, 0)])
def test_the_network_is_asked_twice_only_at_times_that_have_weight(share, guided):
    with passes(made("ddim")) as times, UpsampleGuidance(made("ddim"), share=share):
        run("ddim", num_inference_steps=4)
    # H(0) = 1: there is guidance at t = (1 - share) T
    assert len(times) == 4 + guided
    assert [t for t in times if t in (750, 500, 250, 0)] == [750, 500, 250, 0, *[0] * (guided > 3)]


def test_guidance_corrects_both_parts_of_a_batch_or_their_sum():
    pipeline, g, settings = made("stable_diffusion"), 5.0, {"scale": 2, "theta": 1.2}
    schedule = Schedule.from_diffusers(pipeline.scheduler)
    x, t = torch.randn(1, LATENT, 8, 8, generator=generators(1)[0]), torch.tensor(600)
    batch, text = torch.cat([x, x]), torch.cat([embedded(1), embedded(2)])

    def combined(x, t):
        unconditional, conditional = pipeline.unet(x, t, text).sample.chunk(2)
        return unconditional + g * (conditional - unconditional)

    with torch.no_grad():
        with UpsampleGuidance(pipeline, **settings):
            before = combined(batch, t)
        alpha = float(schedule.alpha(600))
        tau = torch.tensor(float(matched_time(schedule, 600, 1)))
        low = combined(float(intensity_scale(alpha, 1)) * downsample(batch), tau)
        eps = combined(batch, t)
        after = eps + settings["theta"] * upsample(low / 2 - downsample(eps))
    np.testing.assert_allclose(before, after, rtol=0, atol=2e-5)
    assert (before - eps).abs().max() > 1e-2


def test_what_listens_to_the_network_hears_it_guided():
    name = "deepfloyd"
    heard = []
    with Chromatograph(made(name), keep="bands") as meter, UpsampleGuidance(made(name)):
        hook = made(name).unet.register_forward_hook(lambda module, args, output: heard.append(output[0].clone()))
        run(name)
        hook.remove()
    assert len(heard) == len(meter.kept) == 2
    for output, record in zip(heard, meter.kept, strict=True):
        unconditional, conditional = output[:, :3].chunk(2)
        np.testing.assert_allclose(record.guidance, conditional - unconditional, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 1}, r"how many times larger .* whole number of 2 or more; got 1"),
        ({"scale": True}, r"whole number of 2 or more; got True"),
        ({"scale": 1.5}, r"whole number of 2 or more; got 1\.5"),
        ({"theta": -0.1}, r"theta .* finite and 0 or more; got -0\.1"),
        ({"theta": float("nan")}, r"theta .* got nan"),
        ({"share": 1.2}, r"share .* lies in \[0, 1\]; got 1\.2"),
        ({"share": -0.2}, r"share .* got -0\.2"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        UpsampleGuidance(made("ddim"), **settings)


def test_pipelines_without_a_unet_are_refused():
    for pipeline in (tiny.pixart(), tiny.stable_diffusion_3(), tiny.flux()):
        needed = rf"with a denoiser, `unet`, and a `scheduler`; got {type(pipeline).__name__}"
        with pytest.raises(TypeError, match=needed):
            UpsampleGuidance(pipeline)


def test_networks_that_predict_a_flow_or_see_more_than_the_image_are_refused():
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match=r"epsilon, sample, v_prediction; this one predicts flow"):
        UpsampleGuidance(tiny.stable_diffusion(scheduler=flow))
    learned = diffusers.DDPMScheduler(variance_type="learned_range")
    with pytest.raises(TypeError, match="that of DDPMPipeline sees 3 channels and predicts 3"):
        UpsampleGuidance(tiny.ddpm(scheduler=learned))


@pytest.mark.parametrize(
    ("shape", "scale"),
    [((2, 3, 8, 8), 3), ((2, 3, 8, 8), 16), ((1, 3, 8, 12), 3), ((1, 3, 12, 8), 3), ((3, 8, 8), 2)],
    ids=["neither side", "a block larger than the image", "height alone", "width alone", "no batch"],
)
@pytest.mark.usefixtures("no_type_checks")
def test_images_that_do_not_divide_are_refused(shape, scale):
    x = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"blocks of {scale}x{scale} pixels; got {re.escape(str(shape))}"):
        coarse_correction(lambda low, alpha: low, x, x, 0.5, scale)
    with UpsampleGuidance(made("ddim"), scale), pytest.raises(ValueError, match=re.escape(str(shape))):
        made("ddim").unet(x, 500)


def test_one_block_guides_a_pipeline_at_a_time():
    pipeline = made("ddim")
    attributes, guidance = {**vars(pipeline.unet)}, UpsampleGuidance(pipeline)
    with guidance:
        for other in (guidance, UpsampleGuidance(pipeline, theta=2.0)):
            with pytest.raises(ValueError, match=r"UpsampleGuidance is open on this pipeline already; one at a time"):
                other.__enter__()
    assert vars(pipeline.unet) == attributes
    with guidance:  # and again afterwards
        run("ddim")


def test_a_scheduler_that_was_exchanged_is_refused():
    pipeline = tiny.ddim()
    guidance = UpsampleGuidance(pipeline)
    pipeline.scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
    with pytest.raises(ValueError, match="scheduler was exchanged"), guidance:
        run("ddim", pipeline)


def test_images_beside_the_noised_one_and_networks_without_channels_are_refused():
    pipeline, x = made("stable_diffusion"), torch.zeros(1, LATENT, 8, 8)
    residuals = {"down_block_additional_residuals": [x], "mid_block_additional_residual": x}
    with pytest.raises(ValueError, match=r"shown one image, \(N, C, H, W\).* residuals"), UpsampleGuidance(pipeline):
        pipeline.unet(x, 1, embedded(1), **residuals)
    bare = tiny.ddim()
    bare.register_modules(unet=torch.nn.Identity())
    with pytest.raises(TypeError, match="states its channels"):
        UpsampleGuidance(bare)


def test_a_network_that_was_compiled_in_place_is_refused():
    pipeline = tiny.ddim()
    pipeline.unet._compiled_call_impl = pipeline.unet._call_impl  # what `pipeline.unet.compile()` sets
    with pytest.raises(ValueError, match="compiled in place"), UpsampleGuidance(pipeline):
        pass
