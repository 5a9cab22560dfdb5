"""Coarse first: exact where bands are independent, as far off as predicted elsewhere, the plain run when it is off."""

import functools
import inspect

import diffusers
import numpy as np
import pytest
import tiny
import torch
from tiny import embedded, exact, generators

from reschrom import (
    Chromatograph,
    CoarseFirst,
    GaussianField,
    Schedule,
    StationaryField,
    UpsampleGuidance,
    band_energies,
    bands,
    coarse_noise,
    downsample,
    handover,
    intensity_scale,
    matched_alpha,
    matched_time,
    upsample,
)

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SPECTRUM = [0.1, 0.4, 1.5, 6.0]  # of 8x8 pixels
FIELD = GaussianField(SPECTRUM)
STATIONARY = StationaryField.of_spectrum(SPECTRUM)
PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow_prediction")


class BySize:
    """The exact denoiser of a field at every size."""

    def __init__(self, *fields):
        self.fields = {field.shape[-1] if hasattr(field, "shape") else field.mean.shape[-1]: field for field in fields}

    def denoise(self, x_t, alpha):
        return self.fields[x_t.shape[-1]].denoise(x_t, alpha)


WHITE_BANDS = BySize(*(GaussianField(np.array(SPECTRUM[m:]) / 4**m) for m in range(3)))
WAVES = BySize(*(STATIONARY.pooled(m) for m in range(3)))


def final(pipeline, x, steps):
    """Sample without the pipeline's clipping to colours, from noise x."""
    scheduler, generator = pipeline.scheduler, torch.Generator().manual_seed(5)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(pipeline.unet(x, t).sample, t, x, **draws(scheduler, generator)).prev_sample
    return x.double().numpy()


def draws(scheduler, generator):
    return {"generator": generator} if type(scheduler).__name__.startswith("DDPM") else {}


def exact_pipeline(posterior, scheduler, prediction="epsilon"):
    network = tiny.ExactNetwork(posterior, Schedule.from_diffusers(scheduler), prediction)
    network.register_to_config(out_channels=3)
    return diffusers.DDPMPipeline(network, scheduler)


@pytest.mark.lasting
@pytest.mark.parametrize("points", [[200.0], [100.0, 500.0], [300.0, 300.0]], ids=str)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_it_is_the_exact_denoiser_of_a_field_of_white_bands(prediction, points):
    pipeline = exact(WHITE_BANDS, prediction)
    pipeline.unet.register_to_config(out_channels=3)
    x = torch.randn(3, 3, 8, 8, generator=generators(1)[0])
    for t in (900, 600, 250):
        right, time = pipeline.unet(x, torch.tensor(t)).sample, torch.tensor(t)
        with CoarseFirst(pipeline, SPECTRUM, turning_points=points) as coarse:
            found = pipeline.unet(x, time).sample
        assert coarse.level(t) > 0 or torch.equal(found, right)
        # networks of single precision, whose signal is 1e-2 of their input
        np.testing.assert_allclose(found, right, rtol=0, atol=3e-5 * float(right.abs().max()))


@pytest.mark.parametrize("level", [1, 2])
def test_coarse_noise_is_the_exact_prediction_in_double_precision(level):
    x, alpha = np.random.default_rng(0).standard_normal((2, 3, 8, 8)), 0.2
    low = WHITE_BANDS.fields[8 >> level]

    def predict(x, alpha):
        return (x - np.sqrt(alpha) * low.denoise(x, alpha)) / np.sqrt(1 - alpha)

    right = (x - np.sqrt(alpha) * FIELD.denoise(x, alpha)) / np.sqrt(1 - alpha)
    np.testing.assert_allclose(coarse_noise(predict, x, alpha, level, SPECTRUM), right, atol=1e-12)


@pytest.mark.lasting
def test_a_stationary_field_is_changed_as_predicted_by_ddim():
    """From every unit of noise in turn: what all become is the covariance of a run, and nothing is left to chance."""
    scheduler = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)
    pipeline = exact_pipeline(
        BySize(*(StationaryField.of_spectrum(SPECTRUM, 1).pooled(m) for m in range(3))), scheduler
    )
    units = torch.eye(64).reshape(64, 1, 8, 8)
    direct = final(pipeline, units, 20)
    with CoarseFirst(pipeline, SPECTRUM, turning_points=[300, 600], steps=20) as coarse:
        found = final(pipeline, units, 20)
    plain, other, apart = (np.sqrt(band_energies(each).sum(axis=-1)) for each in (direct, found, found - direct))
    # 1 % is asked for; networks of single precision leave 1e-3
    expected = coarse.expected
    np.testing.assert_allclose(np.abs(other / plain - 1), [*expected.errors.values()], rtol=3e-3, atol=3e-5)
    np.testing.assert_allclose((apart / plain)[:-1], [*expected.deviations.values()][:-1], rtol=3e-3)
    assert min([*expected.errors.values()][:-1]) > 1e-3
    assert expected.pixels == np.mean([0.25 ** coarse.level(float(t)) for t in scheduler.timesteps])


@pytest.mark.lasting
def test_a_stationary_field_is_changed_as_predicted_by_ancestral_sampling():
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)
    pipeline = exact_pipeline(WAVES, scheduler)
    noise = torch.randn(1000, 3, 8, 8, generator=generators(1)[0])
    direct = final(pipeline, noise, 20)
    with CoarseFirst(pipeline, SPECTRUM, turning_points=[300, 600], steps=20) as coarse:
        found = final(pipeline, noise, 20)
    plain, apart = (np.sqrt(band_energies(each).sum(axis=-1)) for each in (direct, found - direct))
    # the coarsest band that moves has 9,000 coefficients: 0.75 % each way
    expected = [*coarse.expected.deviations.values()]
    np.testing.assert_allclose((apart / plain)[:-1], expected[:-1], rtol=0.02)
    levels = [coarse.level(float(t)) for t in scheduler.timesteps]
    alphas = scheduler.alphas_cumprod[scheduler.timesteps].double().numpy()
    np.testing.assert_allclose(expected, handover(STATIONARY, alphas, levels, 1.0).deviation, rtol=1e-4, atol=1e-9)


LINEAR = {"beta_schedule": "linear"}
REMEMBERING = [
    (diffusers.DPMSolverMultistepScheduler, LINEAR),
    (diffusers.DPMSolverMultistepScheduler, LINEAR | {"algorithm_type": "sde-dpmsolver++"}),
    (diffusers.UniPCMultistepScheduler, LINEAR),
    (diffusers.HeunDiscreteScheduler, LINEAR),
    (diffusers.FlowMatchHeunDiscreteScheduler, {"shift": 3.0}),
    (diffusers.PNDMScheduler, LINEAR | {"skip_prk_steps": True}),
]


@pytest.mark.lasting
@pytest.mark.parametrize(("kind", "settings"), REMEMBERING, ids=[f"{k.__name__}-{len(s)}" for k, s in REMEMBERING])
def test_samplers_that_remember_earlier_steps_cross_a_turn_as_the_plain_run_does(kind, settings):
    scheduler = kind(**settings)
    flow = type(scheduler).__name__.startswith("Flow")
    pipeline = exact_pipeline(WHITE_BANDS, scheduler, "flow_prediction" if flow else "epsilon")

    def draw():
        scheduler.set_timesteps(12)
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(4, 3, 8, 8, generator=generator) * getattr(scheduler, "init_noise_sigma", 1)
        seen = []
        for t in scheduler.timesteps:
            shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            seen.append(pipeline.unet(shown, t).sample)
            more = {"generator": generator} if "sde" in str(scheduler.config.get("algorithm_type")) else {}
            x = scheduler.step(seen[-1], t, x, **more).prev_sample
        return x, seen

    plain, _ = draw()
    with CoarseFirst(pipeline, SPECTRUM, turning_points=[300, 600]) as coarse:
        found, _ = draw()
    assert {coarse.level(float(t)) for t in scheduler.timesteps} == {0, 1, 2}
    np.testing.assert_allclose(found, plain, rtol=0, atol=2e-4 * float(plain.abs().max()))


@functools.cache
def made(name):
    return getattr(tiny, name)()


def told(name, count=1):
    """Return what the pipeline is called with instead of words."""
    text = {"prompt_embeds": embedded(1, count), "negative_prompt_embeds": embedded(2, count)}
    latent = {"output_type": "latent", "height": 16, "width": 16}
    pooled = {f"{which}pooled_prompt_embeds": embedded(3, count, 1)[:, 0] for which in ("", "negative_")}
    match name:
        case "deepfloyd":
            return text | {"output_type": "pt"}
        case "stable_diffusion":
            return text | latent
        case "stable_diffusion_xl" | "stable_diffusion_3":
            return text | latent | pooled
        case "pixart":
            masks = {f"{which}prompt_attention_mask": torch.ones(count, 4) for which in ("", "negative_")}
            return text | masks | latent | {"negative_prompt": None, "use_resolution_binning": False}
    return {"prompt_embeds": text["prompt_embeds"], "pooled_prompt_embeds": pooled["pooled_prompt_embeds"]} | latent


def run(name, **settings):
    usual = {"num_inference_steps": 4, "generator": generators(1)[0]}
    return torch.as_tensor(made(name)(**(usual | told(name) | settings)).images)


NAMES = ("stable_diffusion_xl", "stable_diffusion_3", "pixart", "flux", "deepfloyd", "stable_diffusion")


def network(name):
    pipeline = made(name)
    return getattr(pipeline, "unet", None) or pipeline.transformer


@pytest.mark.lasting
@pytest.mark.parametrize("name", NAMES)
def test_with_every_turning_point_off_it_is_the_plain_run_to_the_bit(name):
    before, attributes = run(name), {**vars(network(name))}
    for points in ([], [np.inf, np.inf]):
        with CoarseFirst(made(name), SPECTRUM, turning_points=points, steps=4) as coarse:
            assert torch.equal(run(name), before)
        assert coarse.expected.pixels == 1
        assert set(coarse.expected.errors.values()) == {0.0}
    assert vars(network(name)) == attributes


@pytest.mark.lasting
@pytest.mark.parametrize("name", NAMES)
def test_every_pipeline_runs_with_fewer_pixels_and_is_given_back(name):
    heard, sizes = [], []
    called = {"callback": lambda i, t, x: heard.append((i, tuple(x.shape)))}
    if name not in ("deepfloyd", "pixart"):
        called = {"callback_on_step_end": lambda p, i, t, kept: heard.append((i, tuple(kept["latents"].shape))) or kept}
    before = run(name, **called)
    plain = heard.copy()
    heard.clear()
    first = getattr(network(name), "x_embedder", None)
    first = first or next(m for m in network(name).modules() if isinstance(m, torch.nn.Conv2d))
    hook = first.register_forward_hook(lambda module, args, output: sizes.append(args[0].numel()))
    steps = [1000, 750, 500, 250] if name == "flux" else 4  # Flux has a list of its own
    with CoarseFirst(made(name), SPECTRUM, turning_points=[500], steps=steps) as coarse:
        found = run(name, **called)
        assert torch.equal(run(name), found)
    hook.remove()
    assert found.shape == before.shape
    assert not torch.equal(found, before)
    assert torch.isfinite(found).all()
    assert heard == plain
    assert min(sizes) * 4 == max(sizes)
    # PNDM calls its network twice at one time
    assert name == "stable_diffusion" or np.mean(sizes) / max(sizes) == pytest.approx(coarse.expected.pixels)
    assert torch.equal(run(name), before)


@pytest.mark.lasting
@pytest.mark.parametrize("name", ["stable_diffusion_xl", "stable_diffusion_3", "pixart", "deepfloyd"])
def test_the_network_is_shown_the_pooled_image_at_its_own_time(name):
    pipeline, calls = made(name), []
    forward = network(name).forward

    @functools.wraps(forward)
    def recorded(*args, **kwargs):
        output, given = forward(*args, **kwargs), inspect.signature(forward).bind(*args, **kwargs).arguments
        shown = next(iter(given.values()))
        calls.append((shown.clone(), float(given["timestep"].flatten()[0]), output[0].clone()))
        return output

    with torch.no_grad():
        run(name)  # the scheduler knows its steps from here on
        schedule = Schedule.from_diffusers(pipeline.scheduler)
        network(name).forward = recorded
        try:
            run(name)
            plain = calls.copy()
            calls.clear()
            heard = []
            with CoarseFirst(pipeline, SPECTRUM, turning_points=[500], steps=4):
                hook = network(name).register_forward_hook(lambda module, args, output: heard.append(output[0].clone()))
                run(name)
                hook.remove()
        finally:
            del network(name).forward
    x, t, _ = plain[0]
    low, tau, said = calls[0]
    alpha, flow = float(schedule.alpha(t)), name == "stable_diffusion_3"
    small = float(matched_alpha(alpha, 1))

    def path(a):
        return a**0.5 + (1 - a) ** 0.5 if flow else 1.0

    unit = x * path(alpha)
    pooled = float(intensity_scale(alpha, 1)) * downsample(unit) / path(small)
    np.testing.assert_allclose(low, pooled, rtol=0, atol=1e-4)
    assert tau == pytest.approx(float(matched_time(schedule, t, 1)), rel=1e-3)
    detail = bands(unit, 1)[0]
    gain = (1 - alpha) ** 0.5 / (alpha * SPECTRUM[0] + 1 - alpha)
    count = x.shape[1]
    if flow:
        noise = low + (1 - (1 - small) ** 0.5 / path(small)) * said  # a flow says noise - x_0
        estimate = low - (1 - small) ** 0.5 / path(small) * said
        shrunk = alpha**0.5 * SPECTRUM[0] / (alpha * SPECTRUM[0] + 1 - alpha)
        wanted = upsample(noise / 2 - estimate) + (gain - shrunk) * detail
    else:
        wanted = upsample(said[:, :count]) / 2 + gain * detail
    np.testing.assert_allclose(heard[0][:, :count], wanted, rtol=0, atol=1e-4)
    if said.shape[1] > count:  # a variance beside the prediction
        assert torch.equal(heard[0][:, count:], upsample(said[:, count:]))


def test_packed_tokens_are_those_of_the_smaller_image():
    calls, transformer = [], made("flux").transformer
    forward = transformer.forward

    @functools.wraps(forward)
    def recorded(*args, **kwargs):
        calls.append((kwargs["hidden_states"].clone(), kwargs["img_ids"].clone(), float(kwargs["timestep"][0])))
        return forward(*args, **kwargs)

    transformer.forward = recorded
    try:
        run("flux", height=16, width=32, num_inference_steps=2)
        run("flux", height=8, width=16, num_inference_steps=2)
        (large, _, time), _, (_, ids, _), _ = calls
        calls.clear()
        with CoarseFirst(made("flux"), SPECTRUM, turning_points=[900], steps=2):
            run("flux", height=16, width=32, num_inference_steps=2)
    finally:
        del transformer.forward
    tokens, places, tau = calls[0]
    assert torch.equal(places, ids)
    image = diffusers.FluxPipeline._unpack_latents(large, 16, 32, 2)
    alpha = Schedule.flow_matching().alpha(time)
    small = matched_alpha(alpha, 1)
    scale = intensity_scale(alpha, 1) * (alpha**0.5 + (1 - alpha) ** 0.5) / (small**0.5 + (1 - small) ** 0.5)
    wanted = float(scale) * downsample(image)
    packed = diffusers.FluxPipeline._pack_latents(wanted, *wanted.shape)
    np.testing.assert_allclose(tokens, packed, rtol=0, atol=1e-5)
    assert tau == pytest.approx(float(matched_time(Schedule.flow_matching(), time, 1)), rel=1e-5)


def test_a_low_resolution_network_predicts_from_pooled_images():
    pipeline, low = tiny.ddpm(), tiny.ddpm(scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    for parameter in low.unet.parameters():
        parameter.data += 0.1
    x, t = torch.randn(1, 3, 8, 8, generator=generators(1)[0]), torch.tensor(700)
    alpha = float(Schedule.from_diffusers(pipeline.scheduler).alpha(700))
    tau = float(Schedule.from_diffusers(low.scheduler).time(float(matched_alpha(alpha, 1))))
    with torch.no_grad():
        noise = low.unet(float(intensity_scale(alpha, 1)) * downsample(x), torch.tensor(tau)).sample
        with CoarseFirst(pipeline, SPECTRUM, turning_points=[100], low=low):
            found = pipeline.unet(x, t).sample
    gain = (1 - alpha) ** 0.5 / (alpha * SPECTRUM[0] + 1 - alpha)
    np.testing.assert_allclose(found, upsample(noise) / 2 + gain * bands(x, 1)[0], rtol=0, atol=1e-5)


@pytest.mark.lasting
@pytest.mark.parametrize("levels", [1, 2])
def test_turning_points_are_chosen_within_the_tolerance(levels):
    pipeline, costs = tiny.ddim(), []
    for tolerance in (0.1, 0.03, 0.005):
        coarse = CoarseFirst(pipeline, SPECTRUM, tolerance, levels=levels)
        assert 0 < max(coarse.expected.errors.values()) <= tolerance
        assert len(coarse.turning_points) == levels
        costs.append(coarse.expected.pixels)
        # the same turning points, given, expect the same
        given = CoarseFirst(pipeline, SPECTRUM, turning_points=coarse.turning_points)
        assert given.expected == coarse.expected
    assert costs == sorted(costs)
    assert costs[0] < costs[-1] < 1


def test_a_chromatograph_measures_the_run_in_full_size():
    with (
        Chromatograph(made("deepfloyd"), keep="bands") as meter,
        CoarseFirst(made("deepfloyd"), SPECTRUM, turning_points=[300]),
    ):
        run("deepfloyd")
    assert meter.chromatogram.shares.shape[0] == 4


def test_blocks_that_show_a_network_another_size_do_not_nest():
    pipeline = made("deepfloyd")
    blocks = [lambda: CoarseFirst(pipeline, SPECTRUM, turning_points=[300]), lambda: UpsampleGuidance(pipeline)]
    for outer in (0, 1):
        with (
            blocks[outer](),
            pytest.raises(ValueError, match=r"another size too; use one|open on this pipeline already"),
        ):
            blocks[1 - outer]().__enter__()
    with blocks[0](), pytest.raises(ValueError, match="CoarseFirst is open on this pipeline already"):
        blocks[0]().__enter__()
