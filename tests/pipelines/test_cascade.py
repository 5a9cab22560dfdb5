"""The cascade: predictions of several resolutions, merged into one of full resolution (Eqs. 21-24)."""

from functools import partial

import diffusers
import numpy as np
import pytest
import tiny
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput

from reschrom import (
    CascadedUNet,
    FiniteDataset,
    GaussianField,
    Schedule,
    bands,
    cascaded_noise,
    downsample,
    intensity_scale,
    load_pipeline,
    matched_alpha,
    matched_time,
    predicted_noise,
    residual_target,
    upsample,
)
from reschrom.pipelines.adapter import network_denoiser

COSINE = DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)
LINEAR = DDPMScheduler(beta_schedule="linear", clip_sample=False)
CORNERS = [(time, intensity) for time in (True, False) for intensity in (True, False)]


class Listening(UNet2DModel):
    """A network that says nothing and remembers what it was asked."""

    def forward(self, sample, timestep):
        self.asked = sample, timestep
        return UNet2DOutput(sample=torch.zeros_like(sample))


def level(side, scheduler=COSINE, channels=3, kind=UNet2DModel, **settings):
    """Return the pipeline of one level, its network small and random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(side)
        unet = kind(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=(8, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            norm_num_groups=4,
            **settings,
        )
    pipeline = DDPMPipeline(unet.eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def white(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sampled(unet, scheduler, steps=4):
    """Sample by the plain loop that every scheduler of diffusers is made for."""
    scheduler.set_timesteps(steps)
    x_t = white(2, 3, unet.config.sample_size, unet.config.sample_size) * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            noise = unet(scheduler.scale_model_input(x_t, t), t).sample
            x_t = scheduler.step(noise, t, x_t).prev_sample
    return x_t


@pytest.mark.parametrize("side", [2, 8, 32])
def test_the_residual_target_is_the_finest_band(side):
    noise = np.random.default_rng(0).standard_normal((4, 3, side, side))
    target = residual_target(noise)
    np.testing.assert_allclose(target, bands(noise, 1)[0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(downsample(target), 0, atol=1e-15)
    assert torch.equal(residual_target(torch.tensor(noise)), torch.tensor(target))


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_perfect_predictions_telescope_to_the_noise(count):
    noise = np.random.default_rng(1).standard_normal((2, 3, 32, 32))
    own = [2.0**m * downsample(noise, m) for m in range(count)]
    targets = [*map(residual_target, own[:-1]), own[-1]]
    models = [lambda x, alpha, answer=answer: answer for answer in targets]
    np.testing.assert_allclose(cascaded_noise(models, noise, 0.3), noise, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("time", "intensity"), CORNERS)
def test_each_switch_changes_what_it_says_and_nothing_else(time, intensity):
    x_t, alpha = np.random.default_rng(2).standard_normal((2, 1, 8, 8)), np.array([0.2, 0.7])
    asked = []
    noise = cascaded_noise([lambda x, a: asked.append((x, a)) or x] * 3, x_t, alpha, time, intensity)
    merged = 0
    for m, (x, told) in enumerate(asked):
        scale = intensity_scale(alpha, m)[:, None, None, None] if intensity else 1
        np.testing.assert_allclose(x, scale * downsample(x_t, m), rtol=1e-14)
        np.testing.assert_array_equal(told, matched_alpha(alpha, m) if time else alpha)
        merged = merged + upsample(x, m) / 2**m
    np.testing.assert_allclose(noise, merged, rtol=0, atol=1e-14)


def exact_models(spectrum, count):
    """Return the best predictors of every level for a Gaussian field, whose bands are independent."""
    models = []
    for m in range(count):
        # Averaging four pixels divides the variance of a coefficient by four.
        full = partial(predicted_noise, GaussianField(spectrum[m:] / 4.0**m, channels=1).denoise)
        residual = m < count - 1
        models.append(
            lambda x, a, full=full, residual=residual: residual_target(full(x, a)) if residual else full(x, a)
        )
    return models


@pytest.mark.parametrize("alpha", [1e-6, 0.02, 0.4, 0.9, 0.999])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_with_exact_posteriors_it_is_the_exact_predictor_where_bands_are_independent(alpha, count):
    spectrum = 0.05 * 3.0 ** np.arange(7)
    field, rng = GaussianField(spectrum, channels=1), np.random.default_rng(3)
    x_t = alpha**0.5 * field.sample(2, rng) + (1 - alpha) ** 0.5 * rng.standard_normal((2, 1, 64, 64))
    exact = predicted_noise(field.denoise, x_t, alpha)
    models = exact_models(spectrum, count)
    np.testing.assert_allclose(cascaded_noise(models, x_t, alpha), exact, rtol=0, atol=1e-9)
    if alpha == 0.4:
        for switches in CORNERS[1:]:
            assert np.sqrt(np.mean((cascaded_noise(models, x_t, alpha, *switches) - exact) ** 2)) > 0.01


def test_where_detail_betrays_the_coarse_image_it_is_not_the_exact_predictor():
    check = np.array([[1.0, -1.0], [-1.0, 1.0]])
    pictures, rng = np.array([[0.5 + check], [-0.5 - check]]), np.random.default_rng(4)
    x_t = 0.5 * pictures[[0, 1] * 50] + 0.75**0.5 * rng.standard_normal((100, 1, 2, 2))
    full, low = (partial(predicted_noise, FiniteDataset(each).denoise) for each in (pictures, downsample(pictures)))
    cascade = cascaded_noise([lambda x, a: residual_target(full(x, a)), low], x_t, 0.25)
    assert np.abs(cascade - full(x_t, 0.25)).max() > 0.1


def test_what_rounding_the_adjusted_time_would_cost():
    spectrum, schedule = 0.05 * 3.0 ** np.arange(7), Schedule.from_diffusers(COSINE)
    field, rng = GaussianField(spectrum, channels=1), np.random.default_rng(5)
    x_0, white_noise = field.sample(4, rng), rng.standard_normal((4, 1, 64, 64))
    detail, low = exact_models(spectrum, 2)

    def rounded(x, alpha):
        return low(x, float(schedule.alpha(float(max(np.round(schedule.time(alpha)), 0)))))

    costs = {}
    for t in (1, 2, 5, 50, 500, 990):
        alpha = float(schedule.alpha(t))
        x_t = alpha**0.5 * x_0 + (1 - alpha) ** 0.5 * white_noise
        change = cascaded_noise([detail, rounded], x_t, alpha) - cascaded_noise([detail, low], x_t, alpha)
        costs[t] = float(np.sqrt(np.mean(change**2)))
    assert max(costs.values()) < 0.01, costs
    assert costs[500] < 1e-3, costs
    assert costs[990] < 1e-6, costs
    assert costs[1] > 3 * costs[50] > 0, "it costs most near the image"


@pytest.mark.parametrize("t", [0, 1, 10, 500.5, 998, 999])
@pytest.mark.parametrize("scheduler", [COSINE, LINEAR, DDPMScheduler(rescale_betas_zero_snr=True)])
def test_every_network_is_told_its_own_time(scheduler, t):
    cascade = CascadedUNet(*(level(side, scheduler, kind=Listening) for side in (8, 16, 32)))
    schedule, x_t = Schedule.from_diffusers(scheduler), white(2, 3, 32, 32)
    assert not cascade(x_t, t).sample.any()
    for m, model in enumerate(cascade.models):
        x, told = model.asked
        expected = intensity_scale(float(schedule.alpha(float(t))), m) * downsample(x_t, m)
        np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)
        assert told.dtype == torch.float32
        tau = max(float(matched_time(schedule, float(t), m)), 0)
        assert told.tolist() == pytest.approx([tau, tau], rel=1e-6, abs=1e-4)
    plain = CascadedUNet(*(level(side, scheduler, kind=Listening) for side in (8, 16)), time_adjustment=False)
    plain(x_t, torch.tensor([t, t]))
    assert all(model.asked[1].tolist() == pytest.approx([t, t], abs=1e-4) for model in plain.models)


@pytest.mark.parametrize("side", [8, 12])
@pytest.mark.parametrize(("time", "intensity"), CORNERS)
def test_two_levels_are_equation_22(time, intensity, side):
    low, high = level(side), level(2 * side)
    schedule, x_t, t = Schedule.from_diffusers(COSINE), white(2, 3, 2 * side, 2 * side), 600.0
    tau = torch.tensor(float(matched_time(schedule, t, 1)) if time else t)
    scale = float(intensity_scale(float(schedule.alpha(t)), 1)) if intensity else 1.0
    with torch.no_grad():
        expected = 0.5 * upsample(low.unet(scale * downsample(x_t), tau).sample) + high.unet(x_t, 600).sample
        (noise,) = CascadedUNet(low, high, time_adjustment=time, intensity_rescaling=intensity)(
            x_t, torch.tensor(600), return_dict=False
        )
    torch.testing.assert_close(noise, expected)


@pytest.mark.lasting
def test_a_saved_cascade_is_the_same(tmp_path):
    cascade, x_t = CascadedUNet(level(8), level(16), level(32), intensity_rescaling=False), white(2, 3, 32, 32)
    cascade.save_pretrained(tmp_path)
    again = CascadedUNet.from_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert str(tmp_path) not in (tmp_path / "config.json").read_text()
    assert (again.config["time_adjustment"], again.config["intensity_rescaling"]) == (True, False)
    changed = CascadedUNet.from_pretrained(tmp_path, time_adjustment=False)
    half = CascadedUNet.from_pretrained(tmp_path, dtype=torch.float16)
    with torch.no_grad():
        noise = cascade(x_t, 700).sample
        assert torch.equal(again(x_t, 700).sample, noise)
        assert not torch.allclose(changed(x_t, 700).sample, noise)
        low_precision = half(x_t.half(), 700).sample
    assert {low_precision.dtype} == {value.dtype for value in half.state_dict().values()} == {torch.float16}
    torch.testing.assert_close(low_precision.float(), noise, rtol=0, atol=0.02)


@pytest.mark.lasting
@pytest.mark.parametrize("load", [load_pipeline, DiffusionPipeline.from_pretrained])
@pytest.mark.parametrize("kind", [DDIMPipeline, DDPMPipeline])
def test_pipelines_hold_it_as_any_network(kind, load, tmp_path, capfd):
    cascade = CascadedUNet(level(8), level(16))
    pipeline = kind(cascade, COSINE)
    pipeline.save_pretrained(tmp_path)
    again = load(tmp_path)
    told = [line for line in capfd.readouterr().err.splitlines() if line and "Loading pipeline components" not in line]
    assert told == []
    assert type(again.unet) is CascadedUNet
    images = []
    for each in (pipeline, again):
        each.set_progress_bar_config(disable=True)
        images.append(each(num_inference_steps=3, generator=torch.manual_seed(0), output_type="np").images)
    assert images[0].shape == (1, 16, 16, 3)
    np.testing.assert_allclose(*images, rtol=0, atol=1e-5)


def test_measurements_take_it_as_any_network():
    pipeline = DDPMPipeline(CascadedUNet(level(8), level(16)), COSINE)
    x_t, alpha = white(2, 3, 16, 16), float(COSINE.alphas_cumprod[300])
    with torch.no_grad():
        noise = pipeline.unet(x_t, 300).sample
    expected = (x_t - (1 - alpha) ** 0.5 * noise) / alpha**0.5
    np.testing.assert_allclose(network_denoiser(pipeline)(x_t.numpy(), alpha), expected, rtol=1e-4, atol=1e-4)


SCHEDULERS = {
    "DDIM": {},
    "DDPM": {},
    "PNDM": {"skip_prk_steps": True},
    "DPMSolverMultistep": {},
    "UniPCMultistep": {},
    "HeunDiscrete": {},
    "EulerAncestralDiscrete": {},
    "EulerDiscrete": {"use_karras_sigmas": True},  # timesteps that are not whole
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_scheduler_samples_with_it(name):
    scheduler = getattr(diffusers, f"{name}Scheduler").from_config(LINEAR.config, **SCHEDULERS[name])
    images = sampled(CascadedUNet(level(8, LINEAR), level(16, LINEAR)), scheduler)
    assert images.shape == (2, 3, 16, 16)
    assert images.isfinite().all()
    assert images.std() > 0.1


@pytest.mark.lasting
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_schedulers_that_scale_its_input_sample_the_same_images():
    # Euler's method on x_0 + sigma noise is DDIM.
    cascade, settings = CascadedUNet(level(8, LINEAR), level(16, LINEAR)), {**LINEAR.config, "clip_sample": False}
    euler = diffusers.EulerDiscreteScheduler.from_config(settings, timestep_spacing="leading")
    ddim = diffusers.DDIMScheduler.from_config(settings, timestep_spacing="leading")
    torch.testing.assert_close(sampled(cascade, euler), sampled(cascade, ddim), rtol=1e-3, atol=1e-3)


def test_a_schedule_that_ends_in_pure_noise_samples():
    scheduler = diffusers.DDIMScheduler(
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, prediction_type="epsilon"
    )
    assert scheduler.alphas_cumprod[-1] == 0
    cascade = CascadedUNet(level(8, scheduler), level(16, scheduler))
    with torch.no_grad():
        assert cascade(white(1, 3, 16, 16), 999).sample.isfinite().all()


def velocity(side):
    return level(side, DDPMScheduler.from_config(COSINE.config, prediction_type="v_prediction"))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: CascadedUNet(level(8)), ValueError, "one or more residual models; got no residual model"),
        (lambda: CascadedUNet(level(8), level(32)), ValueError, r"twice the one before; got \[8, 32\]"),
        (lambda: CascadedUNet(level(16), level(8)), ValueError, r"got \[16, 8\]"),
        (lambda: CascadedUNet(level(8), level(16, channels=1)), ValueError, r"same channels.* got \[1, 3\]"),
        (lambda: CascadedUNet(level(8), level(16, LINEAR)), ValueError, "one noise schedule"),
        (lambda: CascadedUNet(velocity(8), velocity(16)), ValueError, r"predict epsilon; got \['v_prediction'\]"),
        (lambda: CascadedUNet(level(8, num_class_embeds=2), level(16)), TypeError, "an unconditional UNet2DModel"),
        (lambda: CascadedUNet(level(8), tiny.deepfloyd()), TypeError, "got IFPipeline"),
        (lambda: CascadedUNet(level(8), level(16).unet), TypeError, "got UNet2DModel"),
        (
            lambda: CascadedUNet(level(8, diffusers.EDMEulerScheduler()), level(16)),
            TypeError,
            "a scheduler is needed that has alphas_cumprod",
        ),
        (lambda: cascaded_noise([], np.zeros((1, 1, 4, 4)), 0.5), ValueError, "one or more models; got none"),
        (lambda: cascaded_noise([print] * 4, np.zeros((1, 1, 4, 4)), 0.5), ValueError, r"multiples of 2\^3; got 4x4"),
        (lambda: residual_target(np.zeros((1, 1, 1, 1))), ValueError, r"multiples of 2\^1; got 1x1"),
    ],
)
def test_what_is_no_cascade_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()
