"""Images that become smaller as they become noise, as a scheduler and a pipeline of diffusers."""

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, DiffusionPipeline
from tiny import unconditional_unet

from reschrom import AttenuatedProcess, DVDPPipeline, DVDPScheduler, Schedule, load_pipeline

STAGED = {"turning_points": (300, 611), "attenuation": 0.18}


def network() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return unconditional_unet().eval()


def precise(scheduler):
    """Let a scheduler of diffusers compute in double precision: its own rounding reaches 1e-5 at high noise."""
    for name in ("alphas_cumprod", "final_alpha_cumprod", "one"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    return scheduler


def pipeline(**settings) -> DVDPPipeline:
    built = DVDPPipeline(network(), DVDPScheduler(**{**STAGED, **settings}))
    built.set_progress_bar_config(disable=True)
    return built


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("clip_sample", [True, False])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_without_turning_points_each_step_is_that_of_ddim(eta, clip_sample, beta_schedule):
    settings = {"beta_schedule": beta_schedule, "clip_sample": clip_sample}
    ours, theirs = DVDPScheduler(**settings), precise(DDIMScheduler(**settings))
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(12)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    generator = seeded()
    for t in theirs.timesteps:
        x, noise = torch.randn(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64)
        expected = theirs.step(noise, t, x, eta=eta, use_clipped_model_output=True, generator=seeded())
        found = ours.step(noise, t, x, eta=eta, generator=seeded())
        torch.testing.assert_close(found.prev_sample, expected.prev_sample, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.pred_original_sample, expected.pred_original_sample, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clip_sample", [True, False])
def test_without_turning_points_each_step_is_that_of_ddpm(clip_sample):
    ours, theirs = DVDPScheduler(clip_sample=clip_sample), precise(DDPMScheduler(clip_sample=clip_sample))
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(12)
    generator = seeded()
    for t in theirs.timesteps:
        x, noise = torch.randn(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64)
        expected = theirs.step(noise, t, x, generator=seeded()).prev_sample
        found = ours.step(noise, t, x, eta=1, generator=seeded()).prev_sample
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("attenuation", [1.0, 0.1])
def test_without_turning_points_the_pipeline_is_that_of_ddim_and_ddpm(attenuation):
    # Attenuation ends at a turning point: with none there is none.
    ours = pipeline(turning_points=(), attenuation=attenuation)
    settings = {"batch_size": 2, "num_inference_steps": 8, "output_type": "pt"}
    ddim, ddpm = DDIMPipeline(network(), DDIMScheduler()), DDPMPipeline(network(), DDPMScheduler())
    for each in (ours, ddim, ddpm):
        each.set_progress_bar_config(disable=True)
        each.unet.double()
        precise(each.scheduler)
    for eta in (0.0, 1.0):
        expected = ddim(**settings, eta=eta, use_clipped_model_output=True, generator=seeded()).images
        torch.testing.assert_close(ours(**settings, eta=eta, generator=seeded()).images, expected, rtol=0, atol=1e-6)
    expected = ddpm(**settings, generator=seeded()).images
    torch.testing.assert_close(ours(**settings, generator=seeded()).images, expected, rtol=0, atol=1e-6)


@pytest.mark.lasting
@pytest.mark.parametrize("steps", [3, 4, 7, 13])
@pytest.mark.parametrize("treatment", ["continue", "preserve"])
def test_images_double_at_turning_points_whatever_the_number_of_steps(steps, treatment):
    drawn, seen = pipeline(treatment=treatment), []
    drawn.unet.register_forward_hook(lambda module, given, found: seen.append((given[0].shape[-1], float(given[1]))))
    images = drawn(batch_size=2, num_inference_steps=steps, generator=seeded(), output_type="pt").images
    assert images.shape == (2, 3, 8, 8)
    assert bool(torch.isfinite(images).all())
    timesteps = np.arange(steps)[::-1] * (1000 // steps)
    assert [side for side, _ in seen] == [8 >> (t >= 300) >> (t >= 611) for t in timesteps]
    process = drawn.scheduler.process
    np.testing.assert_allclose([time for _, time in seen], [float(process.network_time(float(t))) for t in timesteps])


@pytest.mark.parametrize("treatment", ["continue", "preserve"])
def test_a_step_over_two_turning_points_is_its_parts_one_after_another(treatment):
    scheduler = DVDPScheduler(turning_points=(250, 450), treatment=treatment, clip_sample=False)
    scheduler.set_timesteps(2)
    assert scheduler.timesteps.tolist() == [500, 0]
    process, draw = scheduler.process, lambda shape: torch.randn(shape, generator=generator)
    x, noise = torch.randn(2, 4, 3, 2, 2, generator=seeded())
    whole = scheduler.step(noise, 500, x, eta=1, generator=seeded()).prev_sample
    assert whole.shape == (4, 3, 8, 8)
    generator = seeded()
    image = process.estimate(x, noise, 500)
    x = process.posterior(450, 500, 2).apply(x, image, draw)
    x, image = process.double(x, image, 2, draw)
    x = process.posterior(250, 450, 1).apply(x, image, draw)
    x, image = process.double(x, image, 1, draw)  # its estimate has no detail that could be regained
    x = process.posterior(0, 250, 0).apply(x, image, draw)
    torch.testing.assert_close(whole, x)


@pytest.mark.lasting
def test_an_attenuated_detail_is_regained_on_the_way_back():
    scheduler = DVDPScheduler(**STAGED, clip_sample=False)
    scheduler.set_timesteps(100)
    process = scheduler.process
    x_0, noise = torch.rand(2, 3, 8, 8, generator=seeded()), torch.randn(2, 3, 8, 8, generator=seeded())
    x = process.noised(x_0, noise, 290)
    for t in range(290, -1, -10):
        torch.testing.assert_close(x, process.noised(x_0, noise, t), rtol=0, atol=1e-4)
        x = scheduler.step(noise, t, x).prev_sample
    torch.testing.assert_close(x, x_0, rtol=0, atol=1e-4)


@pytest.mark.lasting
def test_a_saved_pipeline_draws_the_same_however_it_is_loaded(tmp_path):
    made = pipeline()
    made.save_pretrained(tmp_path)
    settings = {"num_inference_steps": 5, "output_type": "np"}
    expected = made(**settings, generator=seeded()).images
    for load in (DVDPPipeline.from_pretrained, DiffusionPipeline.from_pretrained, load_pipeline):
        again = load(tmp_path)
        again.set_progress_bar_config(disable=True)
        assert type(again) is DVDPPipeline
        assert again.scheduler.process.turning_points == (300, 611)
        np.testing.assert_allclose(again(**settings, generator=seeded()).images, expected, atol=1e-4)


@pytest.mark.lasting
def test_a_pipeline_is_called_like_others(capsys):
    made = pipeline()
    with_generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    (both,) = made(2, with_generators, 4, output_type="np", return_dict=False)
    assert both.shape == (2, 8, 8, 3)
    assert 0 <= both.min() <= both.max() <= 1
    alone = made(1, torch.Generator().manual_seed(2), 4, output_type="np").images
    np.testing.assert_allclose(alone[0], both[1], atol=1e-5)
    made.set_progress_bar_config(disable=False)
    (image,) = made(num_inference_steps=4).images
    assert image.size == (8, 8)
    assert "4/4" in capsys.readouterr().err


def test_what_is_not_set_is_as_in_the_scheduler_of_ddpm():
    ours, theirs = DVDPScheduler(), DDPMScheduler()
    np.testing.assert_array_equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    for name in {name for name in {*ours.config} & {*theirs.config} if not name.startswith("_")}:
        assert ours.config[name] == theirs.config[name], name
    ours.set_timesteps(7)
    assert ours.num_inference_steps == len(ours.timesteps) == 7


def test_noise_is_added_at_the_resolution_of_the_timesteps():
    scheduler = DVDPScheduler(**STAGED, beta_schedule="squaredcos_cap_v2")
    x_0, noise, t = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 4, 4), torch.tensor([300, 610])
    schedule = Schedule.from_diffusers(DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    expected = AttenuatedProcess(schedule, (300, 611), 0.18).noised(x_0, noise, t.numpy())
    torch.testing.assert_close(scheduler.add_noise(x_0, noise, t), expected)
    assert len(scheduler) == 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DVDPScheduler(turning_points=(611, 300)), "turning points must increase between -1 and 999"),
        (lambda: DVDPScheduler(turning_points=(999,)), "turning points must increase between -1 and 999"),
        (lambda: DVDPScheduler(prediction_type="sample"), "needs a network that predicts epsilon; got 'sample'"),
        (lambda: DVDPScheduler().set_timesteps(0), "num_inference_steps must lie between 1 and 1000; got 0"),
        (lambda: pipeline()(num_inference_steps=2), "start after the last turning point 611; 2 start at 500"),
        (lambda: pipeline()(num_inference_steps=1001), "num_inference_steps must lie between 1 and 1000; got 1001"),
        (lambda: DVDPScheduler().step(torch.zeros(1, 3, 8, 8), 3, torch.zeros(1, 3, 8, 8)), "set_timesteps must be"),
        (
            lambda: pipeline(turning_points=(1, 2, 3, 4)),
            r"4 turning points need square images whose size is a multiple of 2\^4; got 8",
        ),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
