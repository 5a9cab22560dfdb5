"""What schedulers step and take predictions for, compared with what they make of them themselves."""

import diffusers
import numpy as np
import pytest
import torch

from reschrom import Schedule
from reschrom.pipelines.scheduler import (
    PREDICTIONS,
    Mixture,
    mixture_at,
    mixture_of,
    moment,
    prediction_of,
    reach_of,
    response,
    schedule_of,
    share_of_time,
    shown_scales,
    step_of,
    time_of,
    upcoming,
)

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

GENERATOR = torch.Generator().manual_seed(0)
X, M = (torch.randn(2, 3, 4, 4, generator=GENERATOR) for _ in range(2))
# Schedulers that say what they take x_0 for, with the kinds of prediction that each knows.
KARRAS = {"use_karras_sigmas": True}
SAYING = [
    (diffusers.DDIMScheduler, {"clip_sample": False}, ("epsilon", "sample", "v_prediction")),
    (diffusers.DDPMScheduler, {"clip_sample": False}, ("epsilon", "sample", "v_prediction")),
    (diffusers.EulerDiscreteScheduler, {}, ("epsilon", "v_prediction", "sample")),
    (diffusers.EulerDiscreteScheduler, KARRAS, ("epsilon", "v_prediction")),
    (diffusers.EulerAncestralDiscreteScheduler, {}, ("epsilon", "v_prediction")),
    (diffusers.EDMEulerScheduler, {}, ("epsilon", "v_prediction")),
    (diffusers.LCMScheduler, {"clip_sample": False, "timestep_scaling": 1e6}, ("epsilon", "sample", "v_prediction")),
]
# Those that have it in a method instead.
CONVERTING = [
    (diffusers.DPMSolverMultistepScheduler, {}, ("epsilon", "sample", "v_prediction")),
    (diffusers.DPMSolverMultistepScheduler, KARRAS, ("epsilon", "v_prediction")),
    (diffusers.DPMSolverMultistepScheduler, {"use_flow_sigmas": True}, ("flow_prediction", "epsilon")),
    (diffusers.UniPCMultistepScheduler, {"use_flow_sigmas": True}, ("flow_prediction",)),
    (diffusers.EDMDPMSolverMultistepScheduler, {}, ("epsilon", "v_prediction")),
]


def settings(cases):
    return [
        pytest.param(kind, config | {"prediction_type": prediction}, id=f"{kind.__name__}-{prediction}-{len(config)}")
        for kind, config, predictions in cases
        for prediction in predictions
    ]


def estimated(scheduler, mixture):
    change = response(prediction_of(scheduler), mixture, scheduler.config.get("sigma_data") or 0.5)
    return (change.from_x * X + change.from_prediction * M) / change.divisor


@pytest.mark.parametrize(("kind", "config"), settings(SAYING))
def test_the_estimate_is_the_one_that_the_scheduler_makes(kind, config):
    scheduler = kind(**config)
    scheduler.set_timesteps(6)
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(X, timestep)
        place = index if hasattr(scheduler, "step_index") else None
        mixture = mixture_at(scheduler, place, timestep)
        said = (
            scheduler.step(M, timestep, X, generator=GENERATOR)
            if kind is not diffusers.DDIMScheduler
            else (scheduler.step(M, timestep, X))
        )
        exact = said.denoised if kind is diffusers.LCMScheduler else said.pred_original_sample
        torch.testing.assert_close(
            estimated(scheduler, mixture), exact, rtol=2e-4, atol=2e-4 * float(exact.abs().max())
        )


@pytest.mark.parametrize(("kind", "config"), settings(CONVERTING))
def test_the_estimate_is_the_one_that_the_solver_converts_to(kind, config):
    scheduler = kind(**config)
    scheduler.set_timesteps(6)
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler._step_index = index
        exact = scheduler.convert_model_output(M, sample=X)
        found = estimated(scheduler, mixture_at(scheduler, index, timestep))
        torch.testing.assert_close(found, exact, rtol=2e-4, atol=2e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_exact_prediction_gives_back_the_image(prediction):
    x_0, noise = np.array([0.3, -1.2]), np.array([0.8, 0.1])
    signal, sigma = mixture = mixture_of(0.4, prediction)
    assert mixture.alpha == pytest.approx(0.4)
    assert mixture.log_snr == pytest.approx(np.log(0.4 / 0.6))
    x, data = signal * x_0 + sigma * noise, 0.5
    spread = np.hypot(sigma, data)
    of_edm = (x_0 - data**2 / spread**2 * x) / (sigma * data / spread)
    exact = {
        "epsilon": noise,
        "sample": x_0,
        "v_prediction": signal * noise - sigma * x_0,
        "trigflow": signal * noise - sigma * x_0,
        "flow_prediction": noise - x_0,
        "inverted_flow": x_0 - noise,
        "edm_epsilon": of_edm,
        "edm_v_prediction": -of_edm,
    }[prediction]
    change = response(prediction, mixture, data)
    np.testing.assert_allclose((change.from_x * x + change.from_prediction * exact) / change.divisor, x_0, atol=1e-12)


def test_the_ends_have_no_finite_ratio():
    assert Mixture(0.0, 1.0).log_snr == -np.inf
    assert Mixture(1.0, 0.0).log_snr == np.inf
    assert mixture_of(0.0, "edm_epsilon").noise == np.inf


def test_what_predicts_something_else_is_refused():
    with pytest.raises(ValueError, match=r"one of epsilon, .*; this one predicts guess"):
        response("guess", Mixture(0.6, 0.8))
    scheduler = diffusers.UnCLIPScheduler()
    scheduler.register_to_config(prediction_type="variance")
    with pytest.raises(TypeError, match=r"one of epsilon, .* predicts variance"):
        prediction_of(scheduler)


SECOND_ORDER = [
    diffusers.HeunDiscreteScheduler,
    diffusers.KDPM2DiscreteScheduler,
    diffusers.KDPM2AncestralDiscreteScheduler,
]


@pytest.mark.lasting
@pytest.mark.parametrize("kind", [*SECOND_ORDER, diffusers.EulerDiscreteScheduler, diffusers.LMSDiscreteScheduler])
@pytest.mark.parametrize("karras", [False, True])
def test_what_comes_next_is_what_the_scheduler_scales_for(kind, karras):
    scheduler = kind(use_karras_sigmas=karras)
    scheduler.set_timesteps(5)
    x = X
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep)
        mixture, told = upcoming(scheduler, timestep)
        scales = shown_scales(scheduler, mixture)
        torch.testing.assert_close(scaled, scales[0] * x, rtol=1e-5, atol=1e-5)
        if kind not in SECOND_ORDER:
            assert told == float(timestep)
        x = scheduler.step(M, timestep, x).prev_sample


def test_edm_is_shown_what_its_scheduler_scales():
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(3)
    for index, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(X, timestep)
        (scale,) = shown_scales(scheduler, mixture_at(scheduler, index, timestep))
        torch.testing.assert_close(scaled, scale * X)
        scheduler.step(M, timestep, X)


def test_before_the_first_step_the_scheduler_is_told_where_it_begins():
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    # No run yet: a time of the schedule.
    mixture, told = upcoming(flow, 250.0)
    assert (told, mixture.noise) == (250.0, pytest.approx(0.25))
    flow.set_timesteps(4)
    sigmas = flow.sigmas.tolist()
    # Told in other units, or from the other end, a run begins at its first timestep.
    for passed in (1.0, torch.tensor([0.0]), torch.tensor([1.0, 1.0])):
        assert upcoming(flow, passed)[0].noise == pytest.approx(1.0)
    assert upcoming(flow, flow.timesteps[2])[0].noise == pytest.approx(sigmas[2])
    flow.set_begin_index(1)
    assert upcoming(flow, 0.0)[0].noise == pytest.approx(sigmas[1])
    flow.step(M, flow.timesteps[1], X)
    assert upcoming(flow, 0.0)[0].noise == pytest.approx(sigmas[2])


# Half precision rounds a time by 1/256 of its size, and one below 1 by as much as 1.
@pytest.mark.parametrize(
    ("second", "told", "index"),
    [
        (1.5, 1.5058, 1),
        (1.5, 1.5065, 0),  # in other units, and so at the first
        (1.0, 1.0, 1),
        (0.8, 0.8035, 1),
        (0.8, 0.8045, 0),
        (0.8, 1000.0, 0),  # N sigma of the first
    ],
)
def test_a_run_that_is_near_its_image_is_told_its_time_as_closely(second, told, index):
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    flow.set_timesteps(sigmas=[1.0, second / 1000])
    mixture, time = upcoming(flow, told)
    assert time == pytest.approx([1000, second][index])
    assert mixture.noise == pytest.approx([1, second / 1000][index])
    flow.step(M, flow.timesteps[0], X)  # from now on it counts itself
    assert upcoming(flow, told)[1] == pytest.approx(second)


def test_a_table_is_read_where_a_network_is_called_outside_a_run():
    scheduler = diffusers.DDIMScheduler()
    scheduler.set_timesteps(4)
    assert upcoming(scheduler, 752)[1] == 750  # half precision rounds so
    mixture, told = upcoming(scheduler, 600)
    assert told == 600
    assert mixture.alpha == pytest.approx(float(scheduler.alphas_cumprod[600]))
    between = mixture_at(scheduler, None, 600.5)
    assert float(scheduler.alphas_cumprod[601]) < between.alpha < mixture.alpha


def test_the_midpoint_of_a_stochastic_solver_is_known_to_it():
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(3)
    scheduler.state_in_first_order, scheduler.mid_point_sigma = False, torch.tensor(2.5)
    scheduler._step_index = 1
    assert upcoming(scheduler, 0)[0].noise == 2.5


def test_wuerstchen_and_trigflow_have_functions_for_tables():
    cascade = diffusers.DDPMWuerstchenScheduler()
    cascade.set_timesteps(4)
    mixture = mixture_at(cascade, None, torch.tensor([0.5, 0.5]))
    assert mixture.alpha == pytest.approx(float(cascade._alpha_cumprod(torch.tensor([0.5]), "cpu")))
    sprint = diffusers.SCMScheduler()
    sprint.set_timesteps(2, max_timesteps=1.5708, intermediate_timesteps=None, timesteps=None)
    first = mixture_at(sprint, 0, sprint.timesteps[0])
    assert first.signal == 0  # rounded above pi / 2
    middle = mixture_at(sprint, 1, torch.tensor(0.5))
    assert middle.alpha == pytest.approx(np.cos(0.5) ** 2)
    assert middle.size == pytest.approx(sprint.config.sigma_data)
    assert shown_scales(sprint, middle) == pytest.approx((2.0, 2 / (np.cos(0.5) + np.sin(0.5))))


def test_a_flow_that_counts_from_the_noise_is_turned_round():
    mochi = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    mochi.set_timesteps(4)
    assert prediction_of(mochi) == "inverted_flow"
    mixtures = [mixture_at(mochi, index, t) for index, t in enumerate(mochi.timesteps)]
    assert [m.noise for m in mixtures] == sorted((m.noise for m in mixtures), reverse=True)
    assert shown_scales(mochi, mixtures[0]) == (1.0,)
    schedule = schedule_of(mochi)
    times = [time_of(schedule, mixture, 0.0) for mixture in mixtures]
    np.testing.assert_allclose(times, [1000 * m.noise for m in mixtures], rtol=1e-6)


def test_a_time_is_the_timestep_where_that_is_exact():
    scheduler = diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(7)
    schedule = schedule_of(scheduler)
    told, sigmas = scheduler.timesteps.double().tolist(), scheduler.sigmas.double().numpy()
    times = [time_of(schedule, mixture_at(scheduler, i, t), t) for i, t in enumerate(told)]
    np.testing.assert_allclose(times, told, atol=0.6)  # they are rounded to whole numbers
    sprint = schedule_of(diffusers.SCMScheduler())
    assert time_of(sprint, Mixture(0.0, 0.5), 1.5708) == sprint.end  # told a little above pi / 2
    assert any(abs(time - t) > 0.01 for time, t in zip(times, told, strict=True))
    np.testing.assert_allclose(schedule.alpha(np.array(times)), 1 / (1 + sigmas[:-1] ** 2), rtol=1e-4)


def test_an_estimate_reaches_as_far_as_the_scheduler_lets_it():
    assert reach_of(diffusers.DDPMScheduler(clip_sample_range=2.0)) == 2
    assert reach_of(diffusers.DDPMScheduler(clip_sample=False)) == np.inf
    # These have the setting, and no line that uses it.
    for kind in (diffusers.TCDScheduler, diffusers.CogVideoXDPMScheduler):
        assert reach_of(kind(clip_sample=True)) == np.inf


def test_a_moment_is_what_is_stepped_next_and_the_share_of_time_that_is_left():
    table = diffusers.DDIMScheduler()
    mixture, share = moment(table, 250)
    assert (mixture.alpha, share) == (pytest.approx(float(table.alphas_cumprod[250])), 0.25)
    euler = diffusers.EulerDiscreteScheduler(timestep_spacing="linspace")
    euler.set_timesteps(4)
    euler.scale_model_input(X, euler.timesteps[0])
    assert moment(euler, 12.0)[0].noise == pytest.approx(float(euler.sigmas[0]))  # it counts itself, whatever is told
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow.set_timesteps(2)
    assert [moment(flow, t)[1] for t in flow.timesteps] == pytest.approx([1.0, float(flow.sigmas[1])])


# How often each of five steps evaluates the network.
EVALUATIONS = {
    "DDIM": (diffusers.DDIMScheduler, {}, [1, 1, 1, 1, 1]),
    "Euler": (diffusers.EulerDiscreteScheduler, {}, [1, 1, 1, 1, 1]),
    "Heun": (diffusers.HeunDiscreteScheduler, {}, [2, 2, 2, 2, 1]),
    "PNDM": (diffusers.PNDMScheduler, {}, [4, 4, 4, 1, 1]),
    "PNDM without its start": (diffusers.PNDMScheduler, {"skip_prk_steps": True}, [2, 1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_step_has_one_number_however_often_it_evaluates_the_network(name):
    kind, settings, times = EVALUATIONS[name]
    scheduler = kind(**settings)
    scheduler.set_timesteps(5)
    x, numbers = X, []
    for timestep in scheduler.timesteps:
        numbers.append(step_of(scheduler, timestep))
        x = scheduler.step(M, timestep, x).prev_sample
    assert numbers == [(step, 5) for step, count in enumerate(times, 1) for _ in range(count)]


def test_a_flow_does_not_go_beyond_its_noise():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(2)
    scheduler.sigmas = scheduler.sigmas * 80  # as Cosmos has it
    with pytest.raises(ValueError, match="steps a flow at sigma = 80, which ends at sigma = 1"):
        mixture_at(scheduler, 0, scheduler.timesteps[0])


def test_the_share_of_time_runs_from_noise_to_image():
    table = diffusers.DDIMScheduler()
    assert share_of_time(table, schedule_of(table), 250.0) == 0.25
    for end, share in ((999.0, 0.25), (1000.0, 0.25), (998.5, 251 / 999.5), (1001.0, 251 / 1002)):
        schedule = Schedule("a table or not", -1.0, end, lambda t, xp: -t, lambda log_snr, xp: -log_snr)
        assert share_of_time(table, schedule, 250.0) == share
    edm = diffusers.EDMEulerScheduler()
    schedule = schedule_of(edm)
    assert [share_of_time(edm, schedule, t) for t in (schedule.start, schedule.end)] == [0, 1]


CLIPPING = diffusers.DDIMScheduler(clip_sample=True, clip_sample_range=0.5)


def test_a_setting_of_another_class_has_no_effect():
    # from_config keeps what it does not know, and none of these clips
    for cls in (
        diffusers.EulerDiscreteScheduler,
        diffusers.DPMSolverMultistepScheduler,
        diffusers.LMSDiscreteScheduler,
    ):
        taken = cls.from_config(CLIPPING.config)
        assert taken.config.clip_sample
        assert reach_of(taken) == np.inf
    assert reach_of(diffusers.DDPMScheduler.from_config(CLIPPING.config)) == 0.5

    class Own(diffusers.DDIMScheduler):
        def __init__(self, **settings):
            super().__init__(**settings)

    assert reach_of(Own(clip_sample=True, clip_sample_range=0.5)) == 0.5

    # nor does any of these count in log sigma, or step something else than a flow
    continuous = diffusers.EulerDiscreteScheduler(timestep_type="continuous", sigma_min=0.002, sigma_max=80.0)
    for cls in (diffusers.DDIMScheduler, diffusers.DPMSolverMultistepScheduler):
        assert schedule_of(cls.from_config(continuous.config)).end == 999
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    flow.register_to_config(prediction_type="epsilon")  # as from the config of another class
    assert prediction_of(flow) == "flow_prediction"
