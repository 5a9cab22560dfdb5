"""Designed timesteps: whole, distinct, falling, equal in what was asked, and better than uniform ones."""

import ast
import itertools
import json
import math
import re

import numpy as np
import pytest
import tiny
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from reschrom import (
    Chromatogram,
    GaussianField,
    GaussianMixture,
    Schedule,
    band_losses,
    bands,
    ddim,
    designed_timesteps,
    gaussian_errors,
    rates_from_losses,
    scheduler_arguments,
    scheduler_for,
    usual_timesteps,
)
from reschrom.cli.commands import main
from reschrom.denoisers.network import estimate_precision
from reschrom.design.arguments import last_time

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPECTRUM = np.array([0.02, 0.5, 12.0, 400.0])  # as steep as that of 64x64 photographs
SIDE = 8
COSINE = Schedule.from_diffusers(DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
LINEAR = Schedule.from_diffusers(DDPMScheduler())
FLOW = Schedule.from_diffusers(FlowMatchEulerDiscreteScheduler())


def predicted(schedule=COSINE, spectrum=SPECTRUM, edges=None):
    edges = np.arange(schedule.start, schedule.end + 1) if edges is None else edges
    return Chromatogram.predicted(schedule, SIDE, spectrum, edges)


def uniform(steps):
    """What diffusers calls trailing."""
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.tolist()


@pytest.mark.parametrize("equal", ["error", "variance", "signal"])
@pytest.mark.parametrize("schedule", [COSINE, FLOW], ids=["cosine", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 5, 27, 300, 1000])
def test_timesteps_are_whole_distinct_and_fall_from_the_noisiest(schedule, steps, equal):
    chosen = designed_timesteps(predicted(schedule), schedule, steps, equal=equal)
    assert len(chosen) == steps
    assert chosen[0] == schedule.end
    assert all(type(timestep) is int for timestep in chosen)
    assert all(now > after for now, after in itertools.pairwise(chosen))
    assert chosen[-1] >= max(schedule.start + 1, 0)


@pytest.mark.parametrize(
    "schedule", [Schedule.cosine(), Schedule.flow_matching(), Schedule.edm()], ids=lambda s: s.name
)
def test_without_whole_timesteps_the_steps_are_those_of_the_same_noise(schedule):
    edges = np.concatenate([[0.0], np.geomspace(1e-4, schedule.end, 2000)])
    chosen = designed_timesteps(predicted(schedule, edges=edges), schedule, 20, equal="signal")
    assert all(type(timestep) is float for timestep in chosen)
    assert chosen[0] == schedule.end
    assert all(now > after > 0 for now, after in itertools.pairwise(chosen))
    alpha = schedule.alpha(np.array([*chosen, 0.0]))
    gains = np.mean(alpha / (alpha + (1 - alpha) / SPECTRUM[:, None]), axis=0)
    np.testing.assert_allclose(np.diff(gains), 1 / 20, atol=0.005)


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 0.0, 3.0]])
def test_each_step_generates_an_equal_share_of_signal(weights):
    chosen = designed_timesteps(predicted(), COSINE, 20, weights, equal="signal")
    alpha = COSINE.alpha(np.arange(-1.0, 1000.0))
    gains = np.average(alpha / (alpha + (1 - alpha) / SPECTRUM[:, None]), axis=0, weights=weights)
    share = np.diff(gains[np.array([*chosen, -1]) + 1])
    share[0] += gains[-1]  # what the last timestep of the schedule already holds
    np.testing.assert_allclose(share, 1 / 20, atol=-np.diff(gains).min())  # one whole timestep


def test_each_step_makes_an_equal_share_of_the_error():
    chosen = designed_timesteps(predicted(), COSINE, 40)
    sigma = np.sqrt(COSINE.noise(np.array([*chosen, -1.0])) / COSINE.alpha(np.array([*chosen, -1.0])))
    # Half the square of the step times the second derivative of sqrt(S + sigma^2), carried to the image.
    middle, widths = (sigma[1:] + sigma[:-1]) / 2, -np.diff(sigma)
    error = widths**2 / 2 * np.mean(SPECTRUM[:, None] / (SPECTRUM[:, None] + middle**2) ** 2, axis=0)
    even = error[5:-2].std() / error[5:-2].mean()
    trailing = np.append(uniform(40), -1.0)
    sigma = np.sqrt(COSINE.noise(trailing) / COSINE.alpha(trailing))
    middle, widths = (sigma[1:] + sigma[:-1]) / 2, -np.diff(sigma)
    other = widths**2 / 2 * np.mean(SPECTRUM[:, None] / (SPECTRUM[:, None] + middle**2) ** 2, axis=0)
    assert even < 0.2 * other[5:-2].std() / other[5:-2].mean()


def test_the_error_of_a_gaussian_field_is_that_of_sampling_it():
    timesteps = [999, 700, 400, 120, 10]
    start = np.random.default_rng(0).standard_normal((2, 1, 8, 8))
    *_, last = ddim(GaussianField(SPECTRUM, channels=1).denoise, start, COSINE.alpha(np.array([*timesteps, -1.0])))
    errors = gaussian_errors(timesteps, COSINE, SPECTRUM)
    for m, (got, noise) in enumerate(zip(bands(last.x_t), bands(start), strict=True)):
        # White noise has variance 1 per coefficient: so does the field's amplitude over sqrt(S).
        np.testing.assert_allclose(got, (1 + errors[m]) * np.sqrt(SPECTRUM[m]) * noise, rtol=1e-9)


def test_the_lists_of_others_are_those_of_diffusers():
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    for steps, more in ((10, set()), (27, {"fast27", "smart27"}), (50, {"smart50"})):
        lists = usual_timesteps(scheduler, steps)
        assert set(lists) == {"leading", "trailing", "Karras", "AYS"} | more
        assert lists["trailing"] == uniform(steps)
        for chosen in lists.values():
            assert len(chosen) == steps
            assert all(now > after for now, after in itertools.pairwise(chosen))
        scheduler.set_timesteps(steps)
        assert lists["leading"] == scheduler.timesteps.tolist()
    stable = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    expected = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
    np.testing.assert_allclose(usual_timesteps(stable, 10)["AYS"], expected, atol=2)
    karras = EulerDiscreteScheduler.from_config(stable.config, use_karras_sigmas=True)
    karras.set_timesteps(10)
    np.testing.assert_allclose(usual_timesteps(stable, 10)["Karras"], karras.timesteps, atol=0.6)  # whole numbers


@pytest.mark.parametrize("steps", [10, 20])
def test_half_the_steps_reach_the_error_of_uniform_ones_on_a_gaussian_field(steps):
    half, whole = (
        gaussian_errors(timesteps, COSINE, SPECTRUM)
        for timesteps in (designed_timesteps(predicted(), COSINE, steps), uniform(2 * steps))
    )
    assert np.sqrt(np.mean(half**2)) < np.sqrt(np.mean(whole**2))
    assert np.abs(half).max() < np.abs(whole).max()


def test_ancestral_sampling_loses_least_variance_with_its_own_list():
    def lost(timesteps):
        """The exact loss for a Gaussian field: the chain forgets what is unsure of x_0 in each step."""
        sigma = np.exp(-COSINE.log_snr(np.array(timesteps, float)) / 2)
        variance = (1 + sigma[0] ** 2) * np.ones(len(SPECTRUM))
        for now, after in itertools.pairwise([*sigma, 0.0]):
            kept = (after / now) ** 2
            factor = kept + (1 - kept) * SPECTRUM / (SPECTRUM + now**2)
            variance = factor**2 * variance + after**2 * (1 - kept)
        return np.mean(1 - variance / SPECTRUM)

    chosen = {equal: lost(designed_timesteps(predicted(), COSINE, 50, equal=equal)) for equal in ("variance", "error")}
    assert 0 < chosen["variance"] < chosen["error"] < lost(uniform(50))


def test_no_other_power_of_the_rate_makes_less_error():
    """The error of many steps, band by band relative, is least for the square root of the rate per log sigma."""
    sigma = np.exp(np.linspace(np.log(1e-3), np.log(1e3), 20_001))
    rate = np.sum(2 * SPECTRUM[:, None] * sigma**2 / (SPECTRUM[:, None] + sigma**2) ** 2, axis=0)
    errors = {}
    for power in (0.35, 0.5, 0.65, 1.0):
        done = np.concatenate([[0], np.cumsum((rate[1:] ** power + rate[:-1] ** power) / 2)])
        steps = np.append(np.exp(np.interp(np.linspace(1, 0, 401), done / done[-1], np.log(sigma))), 0.0)
        amplitude = np.sqrt(SPECTRUM + steps[0] ** 2)
        for now, after in itertools.pairwise(steps):
            amplitude *= 1 + (after - now) * now / (SPECTRUM + now**2)
        errors[power] = np.abs(amplitude / np.sqrt(SPECTRUM) - 1).mean()
    assert min(errors, key=errors.get) == 0.5


@pytest.mark.slow
def test_half_the_steps_reach_the_error_of_uniform_ones_on_a_mixture():
    generator = np.random.default_rng(0)
    fields = [GaussianField(SPECTRUM * k, np.full((1, 8, 8), mean)) for k, mean in ((0.5, -0.4), (1.5, 0.4))]
    mixture, start = GaussianMixture(fields), generator.standard_normal((8, 1, 8, 8))
    fine = 1 / (1 + np.geomspace(2e4, 1e-3, 500) ** 2)

    def end(alphas):
        return [step.estimate for step in ddim(mixture.denoise, start, alphas)][-1]

    def error(timesteps):
        return np.sqrt(np.mean(np.square(end(COSINE.alpha(np.array(timesteps, float))) - truth)))

    truth = end(fine)
    assert error(designed_timesteps(predicted(), COSINE, 10)) < error(uniform(20))


def ends_of(denoise, start, schedule, timesteps):
    """What DDIM makes of a list of timesteps."""
    *_, last = ddim(denoise, start, schedule.alpha(np.array([*timesteps, -1.0])))
    return last.x_t


class Inexact:
    """A denoiser that says, as a network does, how precise its estimates can be, and so is not taken to be exact."""

    def __init__(self, denoise):
        self._denoise = denoise

    def __call__(self, x_t, alpha):
        return self._denoise(x_t, alpha)

    def precision(self, alphas):
        return estimate_precision(alphas, "epsilon")


@pytest.mark.lasting
@pytest.mark.parametrize(("schedule", "amount"), [(LINEAR, 0.03), (COSINE, 0.005)], ids=["linear", "cosine"])
@pytest.mark.parametrize("kind", ["field", "mixture"])
def test_a_network_that_errs_at_noise_takes_no_step_that_ruins_it(kind, schedule, amount):
    """Faint images leave little to gain near the noise, where its loss is many times their variance."""
    rng, spectrum = np.random.default_rng(0), np.array([0.01, 0.05, 0.15, 0.1])
    fields = [GaussianField(spectrum, np.full((1, SIDE, SIDE), mean)) for mean in (-0.3, 0.3)]
    exact = {"field": GaussianField(spectrum, channels=1), "mixture": GaussianMixture(fields)}[kind]
    images, start = exact.sample(40, rng), rng.standard_normal((8, 1, SIDE, SIDE))
    off = rng.standard_normal((1, SIDE, SIDE))
    off /= np.sqrt(np.mean(off**2))

    def network(x_t, alpha):
        """The posterior, but its prediction of the noise is off: most in pure noise, and not at all in the image."""
        return exact.denoise(x_t, alpha) - amount * (1 - alpha) * np.sqrt((1 - alpha) / alpha) * off

    noisy = np.array([schedule.end])
    alpha, variance = float(schedule.alpha(noisy)[0]), np.square(images).mean()  # about 0
    loss = {
        each: band_losses(each, images, schedule, noisy, rng).mean.sum() / images[0].size
        for each in (exact.denoise, network)
    }
    assert loss[network] > 10 * variance
    measured = {each: np.sqrt(max(lost - variance, 0) * alpha / (1 - alpha)) for each, lost in loss.items()}
    assert measured[network] == pytest.approx(amount, rel=0.05)
    assert measured[exact.denoise] < 0.001
    chromatogram = predicted(schedule, spectrum, np.arange(-1.0, 1000.0))
    bold = designed_timesteps(chromatogram, schedule, 12)
    careful = designed_timesteps(chromatogram, schedule, 12, noise_error=measured[network])
    assert bold[1] < careful[1]
    truth = ends_of(exact.denoise, start, schedule, range(999, -1, -3))

    def error(denoise, timesteps):
        return np.sqrt(np.mean(np.square(ends_of(denoise, start, schedule, timesteps) - truth)) / variance)

    assert error(network, bold) > 1
    assert error(network, careful) < 0.4
    assert error(exact.denoise, careful) < 1.5 * error(exact.denoise, bold)  # what caution costs

    # The network's own losses know of it, so that nobody has to ask.
    edges = np.append(np.arange(0.0, 999.0, 20.0), 999.0)
    own = rates_from_losses(Inexact(network), images, schedule, edges, rng, "own losses")
    assert own.noise_error == pytest.approx(amount, rel=0.05)
    assert rates_from_losses(Inexact(exact.denoise), images, schedule, edges, rng, "exact").noise_error < 0.001
    by_default = designed_timesteps(own, schedule, 12)
    assert by_default == designed_timesteps(own, schedule, 12, noise_error=own.noise_error)
    assert by_default[1] > designed_timesteps(own, schedule, 12, noise_error=0.0)[1]
    assert error(network, by_default) < 0.4


def test_steps_near_the_noise_are_bounded_by_the_error_of_the_network():
    """Their widths in log sigma are equal where nothing is generated, and narrower for a larger error."""
    generated = predicted(LINEAR, 1e-3 * np.ones(4), np.arange(-1.0, 1000.0))
    widest = []
    for noise_error in (0.0, 0.01, 0.04):
        chosen = designed_timesteps(generated, LINEAR, 40, noise_error=noise_error)
        widths = np.diff(LINEAR.log_snr(np.array(chosen, dtype=float))) / 2
        widest.append(widths[0])
        if noise_error:
            np.testing.assert_allclose(widths[:5], widths[0], rtol=0.1)  # whole timesteps
    assert widest[0] > 3 * widest[1] > 3 * widest[2]


def test_a_band_that_is_never_generated_takes_no_steps():
    rates = predicted().rates * [[1.0], [0.0], [1.0], [1.0]]
    without = Chromatogram(rates, predicted().edges, SIDE, "three bands")
    expected = designed_timesteps(predicted(), COSINE, 20, [1.0, 0.0, 1.0, 1.0])
    assert designed_timesteps(without, COSINE, 20) == expected


def test_a_pipeline_takes_the_list():
    chosen = designed_timesteps(predicted(), COSINE, 7)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    scheduler.set_timesteps(timesteps=chosen)
    assert scheduler.timesteps.tolist() == chosen
    pipeline = tiny.deepfloyd()
    images = pipeline(
        prompt_embeds=tiny.embedded(0),
        negative_prompt_embeds=tiny.embedded(1),
        timesteps=chosen,
        output_type="np",
        generator=tiny.generators(1),
    ).images
    assert images.shape == (1, 8, 8, 3)
    assert pipeline.scheduler.timesteps.tolist() == chosen


def timesteps(capsys, *options, taken="timesteps"):
    assert main(["timesteps", *options]) == 0
    name, _, values = capsys.readouterr().out.partition("=")
    assert name == taken
    return ast.literal_eval(values)


def test_the_command_prints_the_list_of_a_schedule_and_a_spectrum(tmp_path, capsys):
    numbers = [str(s) for s in SPECTRUM]
    DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(tmp_path)
    given = ["--schedule", str(tmp_path), "--size", "8", "--spectrum", *numbers, "--steps", "9"]
    assert timesteps(capsys, *given) == designed_timesteps(predicted(), COSINE, 9)
    weighted = designed_timesteps(predicted(), COSINE, 9, [1.0, 0.0, 0.0, 2.0], "signal")
    assert timesteps(capsys, *given, "--equal", "signal", "--weights", "1", "0", "0", "2") == weighted
    named = Schedule.from_diffusers(scheduler_for(Schedule.sigmoid()))
    paper = predicted(named, None)
    assert timesteps(capsys, "--schedule", "sigmoid", "--size", "8", "--steps", "9") == designed_timesteps(
        paper, named, 9
    )


@pytest.mark.lasting
def test_the_command_measures_a_model(tmp_path, capsys):
    tiny.ddim().save_pretrained(tmp_path / "neither")
    assert main(["timesteps", "--model", str(tmp_path / "neither"), "--steps", "6"]) == 2
    assert "takes timesteps or sigmas; DDIMScheduler does not" in capsys.readouterr().err
    tiny.ddpm().save_pretrained(tmp_path / "model")
    chosen = timesteps(capsys, "--model", str(tmp_path / "model"), "--images", "2", "--steps", "6")
    assert len(chosen) == 6
    assert chosen[0] == 999
    assert chosen == sorted(set(chosen), reverse=True)


@pytest.mark.parametrize(("start", "end", "last"), [(-1.0, 6.0, 6), (-0.5, 6.5, 6), (0.0, 6.0, 6)])
def test_steps_begin_at_the_last_whole_time_of_a_schedule(start, end, last):
    schedule = Schedule("made up", start, end, lambda t, xp: 3 - t, lambda log_snr, xp: 3 - log_snr)
    every = designed_timesteps(predicted(schedule), schedule, last - math.ceil(start))
    assert every == list(range(last, math.ceil(start), -1))


@pytest.mark.parametrize(
    ("scheduler", "taken"),
    [
        (DDPMScheduler(), "timesteps"),
        (EulerDiscreteScheduler(), "timesteps"),
        (FlowMatchEulerDiscreteScheduler(), "sigmas"),
        (FlowMatchEulerDiscreteScheduler(shift=3.0), "sigmas"),
        (UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=5.0), "sigmas"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_scheduler_arrives_at_the_timesteps_in_the_form_that_it_takes(scheduler, taken):
    given = scheduler_arguments(scheduler, [900, 500, 20])
    assert list(given) == [taken]
    scheduler.set_timesteps(**given)
    np.testing.assert_allclose(scheduler.timesteps[:3], [900, 500, 20], atol=0.01 if taken == "timesteps" else 1)


# Their published scheduler_config.json, as far as it shifts, and a mu of their size where it is dynamic.
DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "shift": 3.0}
WAN = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
FLOWS = {
    "plain": (FlowMatchEulerDiscreteScheduler, {}, None),
    "SD3": (FlowMatchEulerDiscreteScheduler, {"shift": 3.0}, None),
    "Flux, 1024": (FlowMatchEulerDiscreteScheduler, DYNAMIC, 1.15),
    "Flux, 256": (FlowMatchEulerDiscreteScheduler, DYNAMIC, 0.5),
    "Flux 2": (FlowMatchEulerDiscreteScheduler, DYNAMIC | {"time_shift_type": "exponential"}, 2.3),
    "Qwen-Image": (
        FlowMatchEulerDiscreteScheduler,
        DYNAMIC | {"shift": 1.0, "max_shift": 0.9, "shift_terminal": 0.02, "max_image_seq_len": 8192},
        0.7,
    ),
    "Z-Image": (FlowMatchEulerDiscreteScheduler, {"shift": 6.0}, None),
    "LTX": (FlowMatchEulerDiscreteScheduler, DYNAMIC | {"max_shift": 2.05, "shift_terminal": 0.1}, 2.05),
    "linear": (FlowMatchEulerDiscreteScheduler, DYNAMIC | {"time_shift_type": "linear"}, 2.5),
    "Wan, 480p": (UniPCMultistepScheduler, WAN | {"flow_shift": 3.0}, None),
    "Wan, 720p": (UniPCMultistepScheduler, WAN | {"flow_shift": 5.0}, None),
}


@pytest.mark.parametrize("steps", [4, 28, 50])
@pytest.mark.parametrize("name", FLOWS)
def test_the_sigmas_that_a_flow_runs_at_are_those_that_were_designed(name, steps):
    kind, settings, mu = FLOWS[name]
    scheduler = kind(**settings)
    schedule = Schedule.from_diffusers(scheduler)
    chosen = designed_timesteps(predicted(schedule), schedule, steps, last=last_time(scheduler))
    given = scheduler_arguments(scheduler, chosen, mu)
    for _ in range(2):  # a scheduler that was set before is set alike
        scheduler.set_timesteps(**given, **({} if mu is None else {"mu": mu}))
        read = scheduler.sigmas.double().numpy()
        np.testing.assert_allclose(read, np.append(chosen, 0.0) / 1000, rtol=0, atol=1.1e-6)  # UniPC takes 1e-6 from 1
    assert chosen[-1] == pytest.approx(1000 * settings.get("shift_terminal", chosen[-1] / 1000))
    # what is not undone would be far away
    assert name == "plain" or np.abs(np.array(chosen) / 1000 - given["sigmas"]).max() > 0.05


@pytest.mark.parametrize("name", ["Flux, 1024", "Qwen-Image", "Wan, 720p"])
def test_the_command_prints_what_the_scheduler_takes(tmp_path, capsys, name):
    kind, settings, mu = FLOWS[name]
    scheduler = kind(**settings)
    scheduler.save_pretrained(tmp_path)
    given = ["--schedule", str(tmp_path), "--size", "64", "--steps", "9", *([] if mu is None else ["--mu", str(mu)])]
    assert main(["timesteps", *given]) == 0
    word, _, printed = capsys.readouterr().out.strip().partition("=")
    assert word == "sigmas"
    schedule = Schedule.from_diffusers(scheduler)
    chromatogram = Chromatogram.predicted(schedule, 64, edges=np.arange(0.0, 1001.0))
    chosen = designed_timesteps(chromatogram, schedule, 9, last=last_time(scheduler))
    scheduler.set_timesteps(sigmas=np.array(json.loads(printed)), **({} if mu is None else {"mu": mu}))
    np.testing.assert_allclose(scheduler.sigmas[:-1], np.array(chosen) / 1000, rtol=0, atol=1.1e-6)


def test_a_shift_that_was_set_afterwards_counts():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_shift(6.0)
    scheduler.set_timesteps(**scheduler_arguments(scheduler, [900, 500, 20]))
    np.testing.assert_allclose(scheduler.sigmas, [0.9, 0.5, 0.02, 0.0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["SD3", "Flux, 256", "Qwen-Image"])
def test_a_pipeline_runs_at_the_designed_sigmas(name):
    kind, settings, _ = FLOWS[name]
    pipeline = tiny.stable_diffusion_3() if name == "SD3" else tiny.flux()
    pipeline.scheduler = scheduler = kind(**settings)
    schedule = Schedule.from_diffusers(scheduler)
    mu = None
    if name != "SD3":
        bounds = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        mu = calculate_shift(16, *(scheduler.config[bound] for bound in bounds))  # 8x8 latents in patches of 2x2
    chosen = designed_timesteps(predicted(schedule), schedule, 4, last=last_time(scheduler))
    settings = {"prompt_embeds": tiny.embedded(1), "pooled_prompt_embeds": tiny.embedded(2)[:, 0]}
    if name == "SD3":
        settings |= {"guidance_scale": 1.0}
    settings |= {"height": 16, "width": 16, "output_type": "latent"}
    pipeline(**settings, **scheduler_arguments(scheduler, chosen, mu))
    np.testing.assert_allclose(scheduler.sigmas, np.append(chosen, 0.0) / 1000, rtol=0, atol=1e-6)


@pytest.mark.parametrize("last", [20, 100])
def test_the_last_timestep_may_be_given_and_the_others_share_the_rest_of_the_work(last):
    few = designed_timesteps(predicted(FLOW), FLOW, 12, last=float(last))
    assert (few[0], few[-1], len(few)) == (1000, last, 12)
    # so many of all steps are passed at each: the parts are equal down to the last
    every = designed_timesteps(predicted(FLOW), FLOW, 400)
    passed = np.interp(few, every[::-1], np.arange(400)[::-1])
    # those next to the noise are whole timesteps that lie close
    np.testing.assert_allclose(np.diff(passed)[5:], passed[-1] / 11, rtol=0.1)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (DDIMScheduler(), r"takes timesteps or sigmas; DDIMScheduler does not"),
        (FlowMatchHeunDiscreteScheduler(), r"takes sigmas; FlowMatchHeunDiscreteScheduler does not"),
        (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), r"by the size of the image: give the mu"),
        (FlowMatchEulerDiscreteScheduler(shift_terminal=0.1), r"last step at 100 \(shift_terminal\), not at 20"),
        (EulerDiscreteScheduler(use_karras_sigmas=True), r"EulerDiscreteScheduler takes no timesteps as it is set: "),
        (UniPCMultistepScheduler(), r"UniPCMultistepScheduler takes no sigmas as it is set: .*use_flow_sigmas"),
        (FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True), r"makes other timesteps of sigmas"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_scheduler_that_would_not_arrive_there_is_refused(scheduler, message):
    with pytest.raises(ValueError, match=message):
        scheduler_arguments(scheduler, [900, 500, 20])


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"there are 1000 timesteps from 999 to 0; got 0 steps"),
        ({"steps": 1001}, r"got 1001 steps"),
        ({"weights": [1.0]}, r"4 weights are needed, .* got \[1\.0\]"),
        ({"weights": [0.0] * 4}, r"not all 0"),
        ({"weights": [1.0, -1.0, 1.0, 1.0]}, r"none negative"),
        ({"equal": "time"}, r"equal in error, variance, signal; got 'time'"),
        ({"last": 0.5}, r"last of 5 timesteps must be one of those below 999; got 0\.5"),
        ({"last": 997}, r"last of 5 timesteps must be one of those below 999; got 997"),
        ({"last": float("nan")}, r"last timestep must be"),
        ({"noise_error": -0.1}, r"noise_error .*got -0\.1"),
        ({"noise_error": float("nan")}, r"noise_error .*got nan"),
        ({"noise_error": 0.1, "equal": "variance"}, r"steps that are equal in error; got equal='variance'"),
        ({"chromatogram": Chromatogram(np.zeros((4, 1)), np.array([0.0, 9.0]), 8, "none")}, r"generate no signal"),
        ({"schedule": Schedule.natural()}, r"the natural schedule has no last time"),
    ],
)
def test_a_mistake_gives_one_clear_error(settings, message):
    given = {"chromatogram": predicted(), "schedule": COSINE, "steps": 5, **settings}
    with pytest.raises(ValueError, match=message):
        designed_timesteps(**given)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], r"for a --schedule or for a --model; give one"),
        (["--schedule", "cosine", "--model", "m"], r"give one of them"),
        (["--schedule", "cosine"], r"--schedule needs the --size"),
        (["--schedule", "natural", "--size", "8"], r"natural schedule has no last time"),
        (["--model", "m", "--size", "8"], r"--size goes with --schedule"),
        (["--schedule", "cosine", "--size", "8", "--spectrum", "a.json", "1"], r"one file, or numbers; got a\.json 1"),
        (["--schedule", "cosine", "--size", "8", "--spectrum", "a.json"], r"a\.json"),
        (["--model", "./nothing"], r"the model must be a diffusers pipeline"),
    ],
)
def test_the_command_refuses_a_mistake_in_one_line(capsys, argv, message):
    assert main(["timesteps", "--steps", "5", *argv]) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert captured.out == ""
    assert captured.err.count("\n") == 1
