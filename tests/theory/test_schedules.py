"""Noise schedules against mpmath at 50 digits, against their own inverses, and against every scheduler of diffusers."""

import importlib
import inspect
import math
import pkgutil
import sys
import warnings
from types import ModuleType, SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch

from reschrom import Schedule, matched_time

mpmath.mp.dps = 50

# Every constructor, and some of its other settings.
CONTINUOUS = {
    "natural": Schedule.natural(),
    "linear": Schedule.linear(),
    "linear(0.01, 50)": Schedule.linear(0.01, 50.0),
    "scaled_linear": Schedule.scaled_linear(),
    "cosine": Schedule.cosine(),
    "cosine(0)": Schedule.cosine(0.0),
    "cosine(0.5)": Schedule.cosine(0.5),
    "sigmoid": Schedule.sigmoid(),
    "sigmoid(0, 3, 0.3)": Schedule.sigmoid(0.0, 3.0, 0.3),
    "sigmoid(-1, 2, 0.9)": Schedule.sigmoid(-1.0, 2.0, 0.9),
    "sigmoid(-3, 3, 0.01)": Schedule.sigmoid(-3.0, 3.0, 0.01),
    "flow_matching": Schedule.flow_matching(),
    "flow_matching(3)": Schedule.flow_matching(3.0),
    "flow_matching(0.2)": Schedule.flow_matching(0.2),
    "edm": Schedule.edm(),
}
INSIDE = np.array([1e-200, 1e-12, 1e-6, 1e-3, 0.03, 0.2, 0.5, 0.8, 0.97, 1 - 1e-3, 1 - 1e-6, 1 - 1e-12])


def exact_alpha(name: str, t: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Return alpha and 1 - alpha by each schedule's definition, with digits enough for any cancellation."""
    kind, _, arguments = name.rstrip(")").partition("(")
    numbers = [mpmath.mpf(float(a)) for a in arguments.split(",") if a]
    with mpmath.workdps(500):
        match kind:
            case "natural":
                alpha = mpmath.exp(-t)
            case "linear":
                first, last = numbers or (mpmath.mpf(0.1), 20)
                alpha = mpmath.exp(-(first * t + (last - first) * t**2 / 2))
            case "scaled_linear":
                first, last = mpmath.mpf(math.sqrt(0.85)), mpmath.mpf(math.sqrt(12.0))
                alpha = mpmath.exp(-((first + (last - first) * t) ** 3 - first**3) / (3 * (last - first)))
            case "cosine":
                s = numbers[0] if numbers else mpmath.mpf(0.008)
                alpha = (
                    mpmath.cos((t + s) / (1 + s) * mpmath.pi / 2) ** 2 / mpmath.cos(s / (1 + s) * mpmath.pi / 2) ** 2
                )
            case "sigmoid":
                start, end, temperature = numbers or (-3, 3, 1)

                def gate(z: mpmath.mpf) -> mpmath.mpf:
                    return 1 / (1 + mpmath.exp(-z / temperature))

                alpha = (gate(end) - gate(start + (end - start) * t)) / (gate(end) - gate(start))
            case "flow_matching":
                shift = numbers[0] if numbers else mpmath.mpf(1)
                sigma = shift * t / (1 + (shift - 1) * t)
                alpha = (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
            case "edm":
                alpha = 1 / (1 + t**2)
        return +alpha, 1 - alpha


@pytest.mark.parametrize("name", CONTINUOUS)
def test_alpha_noise_and_log_snr_against_50_digits(name):
    schedule = CONTINUOUS[name]
    times = INSIDE if math.isfinite(schedule.end) else np.concatenate([INSIDE, [3.0, 40.0, 600.0]])
    alpha, noise = schedule.alpha(times), schedule.noise(times)
    log_snr, snr = schedule.log_snr(times), schedule.snr(times)
    for i, t in enumerate(times):
        a, n = exact_alpha(name, mpmath.mpf(float(t)))
        ratio = mpmath.log(a / n)
        assert alpha[i] == pytest.approx(float(a), rel=1e-12)
        assert noise[i] == pytest.approx(float(n), rel=1e-12)
        assert log_snr[i] == pytest.approx(float(ratio), rel=1e-12, abs=1e-12)
        if ratio < 700:
            assert snr[i] == pytest.approx(float(a / n), rel=1e-12)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_time_at_is_the_inverse_of_log_snr_to_full_relative_precision(name):
    schedule = CONTINUOUS[name]
    np.testing.assert_allclose(schedule.time_at(schedule.log_snr(INSIDE)), INSIDE, rtol=1e-12)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_time_is_the_inverse_of_alpha(name):
    schedule = CONTINUOUS[name]
    # alpha itself rounds the time away near the image, so only times away from it come back.
    times = INSIDE[schedule.noise(INSIDE) > 1e-3]
    assert len(times) > 4
    np.testing.assert_allclose(schedule.time(schedule.alpha(times)), times, rtol=1e-9)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("level", [0, 1, 6])
def test_matched_time_solves_the_snr_condition_to_50_digits(name, level):
    schedule = CONTINUOUS[name]
    for t in (1e-6, 0.03, 0.5, 0.97, 1 - 1e-6):
        tau = float(matched_time(schedule, t, level))
        a, n = exact_alpha(name, mpmath.mpf(t))
        a_low, n_low = exact_alpha(name, mpmath.mpf(tau))
        # The error of tau, from the mismatch of the two ratios and the slope of the log ratio there.
        mismatch = mpmath.log(4**level * a / n) - mpmath.log(a_low / n_low)
        slope = mpmath.diff(lambda time, n=name: mpmath.log(mpmath.fdiv(*exact_alpha(n, time))), tau)
        assert abs(mismatch / slope) <= 1e-12 * tau


@pytest.mark.parametrize("name", CONTINUOUS)
def test_limits_are_the_image_and_the_noise(name):
    schedule = CONTINUOUS[name]
    assert (schedule.alpha(0.0), schedule.noise(0.0)) == (1.0, 0.0)
    assert schedule.log_snr(0.0) == schedule.snr(0.0) == math.inf
    assert schedule.time_at(math.inf) == schedule.time(1.0) == 0.0
    if "linear" in name or name == "edm":  # these end before pure noise
        assert 0 < schedule.alpha(schedule.end) < 0.01
        assert schedule.time(schedule.alpha(schedule.end)) == pytest.approx(schedule.end, rel=1e-12)
        with pytest.raises(ValueError, match="log signal-to-noise ratios from"):
            schedule.time(0.0)
    else:
        assert (schedule.alpha(schedule.end), schedule.noise(schedule.end)) == (0.0, 1.0)
        assert schedule.log_snr(schedule.end) == -math.inf
        assert schedule.time_at(-math.inf) == schedule.time(0.0) == schedule.end


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_numpy_and_torch_agree_and_keep_dtype_and_shape(name, shape, precision):
    schedule = CONTINUOUS[name]
    t = np.random.default_rng(0).uniform(0.05, 0.95, shape).astype(precision)
    for method in (schedule.alpha, schedule.noise, schedule.log_snr, schedule.snr):
        ours, theirs = method(t), method(torch.asarray(t))
        assert ours.shape == tuple(theirs.shape) == shape
        assert ours.dtype == precision
        assert theirs.dtype == getattr(torch, precision)
        np.testing.assert_allclose(theirs.numpy(), ours, rtol=2e-4 if precision == "float32" else 1e-11, atol=1e-5)
    back = schedule.time_at(schedule.log_snr(torch.asarray(t)))
    assert back.dtype == getattr(torch, precision)
    np.testing.assert_allclose(back.numpy(), t, rtol=1e-4 if precision == "float32" else 1e-12)


def test_limits_hold_in_torch_and_single_precision():
    for name, schedule in CONTINUOUS.items():
        for t in (torch.zeros(1), torch.zeros(1, dtype=torch.float64), np.zeros(1, np.float32)):
            assert float(schedule.log_snr(t)[0]) == math.inf, name
            assert float(schedule.time_at(t + math.inf)[0]) == 0.0, name


def test_plain_numbers_and_integers_are_times():
    schedule = Schedule.natural()
    assert float(schedule.alpha(1)) == float(schedule.alpha(1.0)) == pytest.approx(math.exp(-1), rel=1e-15)
    assert schedule.alpha(np.array([0, 1, 2])).dtype == np.float64
    assert schedule.alpha(torch.tensor([0, 1, 2])).dtype == torch.float32


def test_a_strided_torch_tensor_gives_no_warning():
    schedule = Schedule.from_diffusers(every_scheduler()["DDPMScheduler"]())
    t = torch.arange(20.0)
    torch.testing.assert_close(schedule.alpha(t[::2]), schedule.alpha(t)[::2], rtol=0, atol=0)
    torch.testing.assert_close(schedule.alpha(t.reshape(4, 5).T), schedule.alpha(t).reshape(4, 5).T, rtol=0, atol=0)


@pytest.mark.parametrize("level", [1, 2, 5])
def test_natural_matched_time_is_equation_32(level):
    for t in (0.1, 1.0, 5.0):
        expected = mpmath.log(mpmath.exp(t) + 4**level - 1) - level * mpmath.log(4)
        assert matched_time(Schedule.natural(), t, level) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_matching_m_then_k_levels_is_matching_their_sum(name):
    schedule = CONTINUOUS[name]
    t = np.linspace(0.01, 0.99, 50)
    for m, k in [(0, 3), (1, 1), (2, 4)]:
        twice = matched_time(schedule, matched_time(schedule, t, m), k)
        np.testing.assert_allclose(twice, matched_time(schedule, t, m + k), rtol=1e-11)


# The schedulers of diffusers.

# What classes without defaults are built with.
ARGUMENTS = {"AmusedScheduler": {"mask_token_id": 7}, "VQDiffusionScheduler": {"num_vec_classes": 8}}
PROTEINA = {"RFD4ProteinaScheduler"}  # protein backbones, not images; alpha_t is not a noise level there
BETAS = {
    "default": {},
    "linear": {"beta_schedule": "linear", "beta_start": 0.001, "beta_end": 0.01},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "zero_snr": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
    "few_steps": {"num_train_timesteps": 50},
    "zero_snr_cosine": {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True},
    "snr_shift": {"snr_shift_scale": 1.0},
}
FLOW_SIGMAS = [
    "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
]
FLOW_MATCHING = [
    "FlowMapEulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "HeliosDMDScheduler",
    "HeliosScheduler",
    "LTXEulerAncestralRFScheduler",
    "PiflowScheduler",
]


def every_scheduler() -> dict[str, type]:
    """Return every scheduler class of the installed diffusers, by name."""
    import diffusers.schedulers
    from diffusers import ConfigMixin, SchedulerMixin

    # Two modules import torchsde, which is not installed here; they need it to sample, not to say their schedule.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))
        modules = [
            importlib.import_module(module.name)
            for module in pkgutil.walk_packages(diffusers.schedulers.__path__, "diffusers.schedulers.")
            if not module.ispkg
        ]
    classes = {}
    for module in modules:
        for name, member in vars(module).items():
            if inspect.isclass(member) and member.__module__ == module.__name__ and issubclass(member, SchedulerMixin):
                classes[name] = member
    return {name: c for name, c in sorted(classes.items()) if issubclass(c, ConfigMixin)}


def built(name: str, steps: int | None = None, **settings: object) -> object:
    """Return a scheduler, with its sampling steps set when `steps` says how many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation notes of diffusers itself
        scheduler = every_scheduler()[name](**settings)
        if steps is not None:
            scheduler.set_timesteps(steps)
        return scheduler


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    SCHEDULERS = sorted(set(every_scheduler()) - PROTEINA)
    WITH_TABLE = [n for n in SCHEDULERS if hasattr(built(n, **ARGUMENTS.get(n, {})), "alphas_cumprod")]


def test_the_installed_diffusers_has_the_schedulers_that_these_tests_name():
    assert len(WITH_TABLE) >= 25
    assert set(FLOW_SIGMAS) <= set(WITH_TABLE)
    assert set(FLOW_MATCHING) <= set(SCHEDULERS)
    accepting = {n for n in WITH_TABLE if "use_flow_sigmas" in inspect.signature(every_scheduler()[n]).parameters}
    assert accepting == set(FLOW_SIGMAS)
    assert "DPMSolverSDEScheduler" in WITH_TABLE


@pytest.mark.lasting
@pytest.mark.parametrize("name", WITH_TABLE)
def test_alpha_agrees_with_every_scheduler_that_has_a_table(name):
    settings = inspect.signature(every_scheduler()[name]).parameters
    checked = 0
    for betas in BETAS.values():
        if not set(betas) <= set(settings):
            continue
        try:
            scheduler = built(name, **betas)
        except (NotImplementedError, ValueError):  # this class does not know the beta schedule
            continue
        table = np.asarray(scheduler.alphas_cumprod, dtype=np.float64)
        schedule = Schedule.from_diffusers(scheduler)
        steps = np.arange(len(table))
        np.testing.assert_allclose(schedule.alpha(steps), table, rtol=0, atol=1e-6)
        np.testing.assert_allclose(schedule.alpha(steps), table, rtol=1e-9, atol=1e-30)
        torch.testing.assert_close(
            schedule.alpha(torch.arange(len(table))), torch.asarray(table).float(), rtol=1e-3, atol=1e-6
        )
        assert schedule.alpha(schedule.start) == 1.0
        # Noise comes back as the timestep it belongs to, between the timesteps too.
        t = np.linspace(schedule.start, schedule.end, 997)
        np.testing.assert_allclose(schedule.time_at(schedule.log_snr(t)), t, rtol=1e-9, atol=1e-9)
        assert np.all(np.diff(schedule.alpha(t)) < 0)
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"])
@pytest.mark.parametrize("karras", [False, True])
def test_alpha_agrees_between_whole_timesteps_to_second_order(name, karras):
    # These samplers stop between timesteps, and interpolate sigma where we interpolate the angle.
    scheduler = built(name, steps=20, use_karras_sigmas=karras)
    sigma = scheduler.sigmas[:-1].double().numpy()
    t = np.clip(scheduler.timesteps.double().numpy(), 0, 999)
    np.testing.assert_allclose(Schedule.from_diffusers(scheduler).alpha(t), 1 / (1 + sigma**2), rtol=0, atol=1e-5)


def flow_alpha(sigma: np.ndarray) -> np.ndarray:
    return (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("name", FLOW_MATCHING)
def test_alpha_agrees_with_flow_matching_schedulers(name, shift):
    settings = {"stages": 1} if name.startswith("Helios") else {}
    if "shift" in inspect.signature(every_scheduler()[name]).parameters:
        settings["shift"] = shift
    scheduler = built(name, steps=12, **settings)
    t = scheduler.timesteps.double().numpy()
    sigma = scheduler.sigmas[: len(t)].double().numpy()
    schedule = Schedule.from_diffusers(scheduler)
    assert (schedule.start, schedule.end) == (0.0, 1000.0)
    np.testing.assert_allclose(schedule.alpha(t), flow_alpha(sigma), rtol=0, atol=1e-6)
    np.testing.assert_allclose(schedule.time_at(schedule.log_snr(t)), t, rtol=1e-12)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("name", FLOW_SIGMAS)
def test_alpha_agrees_with_solvers_that_use_flow_sigmas(name, shift):
    scheduler = built(name, steps=12, use_flow_sigmas=True, flow_shift=shift, prediction_type="flow_prediction")
    sigma = scheduler.sigmas[: len(scheduler.timesteps)].double().numpy()
    schedule = Schedule.from_diffusers(scheduler)
    np.testing.assert_allclose(schedule.alpha(1000 * sigma), flow_alpha(sigma), rtol=0, atol=1e-6)
    # Their timesteps are N sigma cut to whole numbers.
    np.testing.assert_allclose(scheduler.timesteps.double().numpy(), 1000 * sigma, atol=1.0)


# These count time by the angle of x_t = cos(t) x_0 + sin(t) noise, by log(sigma) / 4, or by the cosine schedule's time.
OTHER_CLOCKS = ("DDPMWuerstchenScheduler", "EDMDPMSolverMultistepScheduler", "EDMEulerScheduler", "SCMScheduler")


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - set(WITH_TABLE) - set(FLOW_MATCHING) - set(OTHER_CLOCKS)))
def test_every_other_scheduler_is_refused_by_name(name):
    with pytest.raises(TypeError, match=f"alphas_cumprod .* got {name}"):
        Schedule.from_diffusers(built(name, **ARGUMENTS.get(name, {})))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}),  # time runs from noise to image
        ("HeliosScheduler", {"stages": 3}),  # changes resolution on the way
        ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}),  # log sigma
    ],
)
def test_schedulers_with_another_clock_are_refused(name, settings):
    with pytest.raises(TypeError, match=f"whole timesteps, one whose timestep is N sigma .* got {name}"):
        Schedule.from_diffusers(built(name, **settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("EDMEulerScheduler", {}),
        ("EDMDPMSolverMultistepScheduler", {"sigma_min": 0.01, "sigma_max": 20.0}),
        (
            "EulerDiscreteScheduler",
            {
                "timestep_type": "continuous",
                "prediction_type": "v_prediction",
                "use_karras_sigmas": True,
                "sigma_min": 0.002,
                "sigma_max": 700.0,
            },
        ),
    ],
)
def test_time_is_a_quarter_of_log_sigma_where_a_scheduler_counts_so(name, settings):
    scheduler = built(name, steps=12, **settings)
    t, sigma = scheduler.timesteps.double().numpy(), scheduler.sigmas[:12].double().numpy()
    schedule = Schedule.from_diffusers(scheduler)
    # Its ends are kept in double precision, and the timesteps in single.
    t = np.clip(t, schedule.start, schedule.end)
    np.testing.assert_allclose(schedule.alpha(t), 1 / (1 + sigma**2), rtol=1e-5)
    np.testing.assert_allclose(schedule.time_at(schedule.log_snr(t)), t, rtol=1e-12)
    np.testing.assert_allclose(schedule.network_time(t), t)  # no image stands before the first of these times


def test_time_is_an_angle_for_trigflow():
    schedule = Schedule.from_diffusers(every_scheduler()["SCMScheduler"]())
    angles = np.linspace(0.1, 1.5, 8)
    np.testing.assert_allclose(schedule.alpha(angles), np.cos(angles) ** 2, rtol=1e-12)
    np.testing.assert_allclose(schedule.time_at(schedule.log_snr(angles)), angles, rtol=1e-12)


def test_wuerstchen_has_the_cosine_schedule():
    scheduler = every_scheduler()["DDPMWuerstchenScheduler"]()
    times = np.linspace(0.05, 0.95, 7)  # at the ends it keeps alpha within 0.0001 and 0.9999
    alphas = [float(scheduler._alpha_cumprod(torch.tensor(t), "cpu")) for t in times]
    np.testing.assert_allclose(Schedule.from_diffusers(scheduler).alpha(times), alphas, rtol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_that_is_told_other_timesteps_than_its_sigmas_is_read_by_its_sigmas(shift):
    # As CogView4 and GLM-Image do: the sigmas are shifted, and the timesteps are not.
    scheduler = built("FlowMatchEulerDiscreteScheduler", shift=shift)
    told = np.linspace(1000, 1, 6).astype(int)
    scheduler.set_timesteps(timesteps=list(told), sigmas=list(told / 1000) if shift > 1 else list(told / 2000 + 0.0))
    schedule, sigma = Schedule.from_diffusers(scheduler), scheduler.sigmas[:-1].double().numpy()
    np.testing.assert_allclose(schedule.alpha(told.astype(float)), flow_alpha(sigma), rtol=0, atol=1e-6)
    np.testing.assert_allclose(schedule.time_at(schedule.log_snr(told.astype(float))), told, rtol=1e-9)


def test_a_subclass_of_a_flow_matching_scheduler_is_one():
    base = every_scheduler()["FlowMatchEulerDiscreteScheduler"]
    schedule = Schedule.from_diffusers(type("Mine", (base,), {})(num_train_timesteps=500))
    assert (schedule.name, schedule.end) == ("Mine", 500.0)
    assert schedule.alpha(250.0) == pytest.approx(0.5, rel=1e-15)


def test_a_table_that_begins_at_the_image_needs_no_other_first_time():
    schedule = Schedule.from_diffusers(SimpleNamespace(alphas_cumprod=[1.0, 0.5, 0.0]))
    assert (schedule.start, schedule.end) == (0.0, 2.0)
    assert (schedule.log_snr(0.0), schedule.log_snr(2.0)) == (math.inf, -math.inf)
    # Half way in angle between the image and equal parts, and between these and noise.
    expected = [1.0, math.cos(math.pi / 8) ** 2, 0.5, math.sin(math.pi / 8) ** 2, 0.0]
    np.testing.assert_allclose(schedule.alpha(np.linspace(0, 2, 5)), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("limit", "settings", "tolerance"),
    [
        (Schedule.linear(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}, 0.5),
        (
            Schedule.scaled_linear(),
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
            0.5,
        ),
        (Schedule.cosine(), {"beta_schedule": "squaredcos_cap_v2"}, 0.01),
    ],
)
def test_a_continuous_schedule_is_the_limit_of_its_scheduler(limit, settings, tolerance):
    # Timestep i is the time after i + 1 of N steps; the rates of a step scale as 1 / N.
    def distance(steps: int) -> float:
        scaled = {k: v * 1000 / steps if k in ("beta_start", "beta_end") else v for k, v in settings.items()}
        scheduler = built("DDPMScheduler", num_train_timesteps=steps, **scaled)
        i = np.arange(0, steps - 1)
        return float(np.abs(Schedule.from_diffusers(scheduler).alpha(i) - limit.alpha((i + 1) / steps)).max())

    assert distance(1000) < 0.01 * tolerance + 1e-5
    # First order: half the step, half the distance, unless only the float32 of the table is left.
    assert distance(1000) < max(0.6 * distance(500), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_table_whose_knots_are_one_number_in_half_precision_is_read(dtype):
    schedule = Schedule.from_alphas(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
    alpha = torch.tensor([0.99, 0.5, 0.01, 1e-4], dtype=dtype)
    found = schedule.time(alpha)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double(), schedule.time(alpha.double()), rtol=0.02, atol=2)
