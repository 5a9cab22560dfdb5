"""The chromatograph: what it measures is what the pipeline did, and it changes nothing."""

import contextlib
import dataclasses
import itertools

import diffusers
import numpy as np
import pytest
import tiny
import torch
from tiny import embedded, generators

from reschrom import Chromatogram, GaussianField, Schedule, band_energies
from reschrom.pipelines.adapter import estimate_precision
from reschrom.pipelines.chromatograph import Chromatograph

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXT = {"prompt_embeds": embedded(1), "negative_prompt_embeds": embedded(2)}
POOLED = {"pooled_prompt_embeds": embedded(3)[:, 0], "negative_pooled_prompt_embeds": embedded(4)[:, 0]}
MASKS = {"prompt_attention_mask": torch.ones(1, 4), "negative_prompt_attention_mask": torch.ones(1, 4)}
SIZE = {"height": 16, "width": 16}
LATENT = {"output_type": "latent"}
FLUX = {"prompt_embeds": TEXT["prompt_embeds"], "pooled_prompt_embeds": POOLED["pooled_prompt_embeds"]}
RUNS = {
    "deepfloyd": {"output_type": "pt"} | TEXT,
    "stable_diffusion": LATENT | TEXT,
    "stable_diffusion_xl": LATENT | TEXT | POOLED,
    "pixart": LATENT | TEXT | MASKS | SIZE | {"negative_prompt": None, "use_resolution_binning": False},
    "stable_diffusion_3": LATENT | TEXT | POOLED | SIZE,
    "flux": LATENT | SIZE | FLUX,
    "ddim": {"output_type": "np"},
    "ddpm": {"output_type": "np"},
}
GUIDED = ["deepfloyd", "stable_diffusion_xl", "pixart", "stable_diffusion_3"]


def run(name, pipeline, **settings):
    usual = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": 3}
    return np.asarray(torch.as_tensor(pipeline(**(usual | RUNS[name] | settings)).images).float())


def denoiser(pipeline):
    return getattr(pipeline, "unet", None) or pipeline.transformer


@contextlib.contextmanager
def calls(pipeline):
    """Collect the input, the output and all arguments of every call of the denoiser."""
    seen = []

    def listen(module, args, kwargs, output):
        sample = args[0] if args else kwargs["hidden_states"]
        seen.append((sample, output[0], (*args[1:], *kwargs.values())))

    hook = denoiser(pipeline).register_forward_hook(listen, with_kwargs=True)
    yield seen
    hook.remove()


def energies(differences):
    """Return the mean band energies of images of successive steps, from image to noise."""
    return np.stack([band_energies(each).mean(-1).numpy() for each in differences[::-1]], axis=1)


def noise_factors(meter):
    """Return what makes differences of noises of those of velocities, where x = (1 - sigma) x_0 + sigma noise.

    In pure noise all predictions of the noise agree, so the first step counts as its cell does in its middle.
    """
    first, second, *_ = sigmas = meter.timesteps / 1000
    middle = ((first + second) / 2 + 1) / 2
    return [1 - middle if sigma == 1 else 1 - sigma for sigma in sigmas]


@pytest.mark.parametrize("name", RUNS)
def test_a_pipeline_makes_the_same_images_with_and_without_the_meter(name):
    pipeline = getattr(tiny, name)()
    without = run(name, pipeline)
    with Chromatograph(pipeline, keep="bands", decoded=hasattr(pipeline, "vae")) as meter:
        measured = run(name, pipeline)
    assert np.array_equal(without, measured)
    assert not denoiser(pipeline)._forward_hooks
    assert meter.images == 1
    assert meter.timesteps.tolist() == sorted(pipeline.scheduler.timesteps.unique().tolist(), reverse=True)
    assert meter.changes.rates.min() > 0


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_is_the_energy_of_the_difference_of_the_halves(name):
    pipeline = getattr(tiny, name)()
    with calls(pipeline) as seen, Chromatograph(pipeline, keep="bands") as meter:
        run(name, pipeline)
    channels = seen[0][0].shape[1]
    halves = [output[:, :channels].chunk(2) for _, output, _ in seen]
    difference = [conditional - unconditional for unconditional, conditional in halves]
    if name == "stable_diffusion_3":  # x = (1 - sigma) x_0 + sigma noise, and v = noise - x_0
        difference = [d * factor for d, factor in zip(difference, noise_factors(meter), strict=True)]
    np.testing.assert_allclose(meter.guidance.rates, energies(difference), rtol=1e-5)
    assert meter.chromatogram.name == meter.guidance.name == "guidance"
    schedule = Schedule.from_diffusers(pipeline.scheduler)
    for (x_t, output, _), record in zip(seen, meter.kept, strict=True):
        alpha = schedule.alpha(record.timestep)
        np.testing.assert_allclose(record.x_t, x_t[1:], rtol=1e-5, atol=1e-5)
        if name == "stable_diffusion_3":
            estimates = x_t - record.timestep / 1000 * output
        else:
            estimates = (x_t - (1 - alpha) ** 0.5 * output[:, :channels]) / alpha**0.5
            estimates = estimates.clip(-1, 1) if pipeline.scheduler.config.get("clip_sample") else estimates
        np.testing.assert_allclose(record.unguided, estimates[:1], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(record.estimate, estimates[1:], rtol=1e-4, atol=1e-4)


def test_guidance_in_two_calls_is_found_and_its_first_call_is_the_conditional_one():
    pipeline = tiny.flux()
    guided = {
        "true_cfg_scale": 3.0,
        "negative_prompt_embeds": TEXT["negative_prompt_embeds"],
        "negative_pooled_prompt_embeds": POOLED["negative_pooled_prompt_embeds"],
    }
    with calls(pipeline) as seen, Chromatograph(pipeline, keep="bands") as meter:
        run("flux", pipeline, **guided)
    assert len(seen) == 6
    both = [pipeline._unpack_latents(output, 16, 16, 2) for _, output, _ in seen]
    x_t = pipeline._unpack_latents(seen[2][0], 16, 16, 2)
    sigmas = pipeline.scheduler.sigmas[:3]
    difference = [f * (a - b) for f, a, b in zip(noise_factors(meter), both[::2], both[1::2], strict=True)]
    np.testing.assert_allclose(meter.guidance.rates, energies(difference), rtol=1e-5)
    np.testing.assert_allclose(meter.kept[1].estimate, x_t - sigmas[1] * both[2], rtol=1e-5, atol=1e-5)


def test_a_third_prediction_of_a_step_is_not_taken_for_another_step():
    pipeline = tiny.stable_diffusion_3()
    skipping = {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    with calls(pipeline) as seen, Chromatograph(pipeline) as meter:
        run("stable_diffusion_3", pipeline, **skipping)
    assert [len(x_t) for x_t, *_ in seen] == [2, 2, 1, 2, 1]
    halves = [output.chunk(2) for x_t, output, _ in seen if len(x_t) == 2]
    difference = [factor * (c - u) for factor, (u, c) in zip(noise_factors(meter), halves, strict=True)]
    np.testing.assert_allclose(meter.guidance.rates, energies(difference), rtol=1e-5)


def test_half_precision_mistakes_no_timestep():
    pipeline = tiny.flux().to(torch.bfloat16)
    prompts = {name: value.bfloat16() for name, value in FLUX.items()}
    with Chromatograph(pipeline) as meter:
        run("flux", pipeline, **prompts, num_inference_steps=12)
    assert meter.timesteps.tolist() == pipeline.scheduler.timesteps.tolist()
    assert np.isfinite(meter.changes.rates).all()


@pytest.mark.parametrize("scheduler", [diffusers.PNDMScheduler, diffusers.HeunDiscreteScheduler])
def test_the_last_prediction_at_a_repeated_timestep_counts(scheduler):
    settings = {"skip_prk_steps": True} if scheduler is diffusers.PNDMScheduler else {}
    pipeline = tiny.stable_diffusion(scheduler=scheduler(steps_offset=1, **settings))
    with calls(pipeline) as seen, Chromatograph(pipeline) as meter:
        run("stable_diffusion", pipeline)
    last = {float(rest[0]): output for _, output, rest in seen}
    assert len(seen) > len(last) == 3
    assert meter.timesteps.tolist() == list(last)
    difference = [
        conditional - unconditional for unconditional, conditional in (each.chunk(2) for each in last.values())
    ]
    np.testing.assert_allclose(meter.guidance.rates, energies(difference), rtol=1e-5)


@pytest.mark.lasting
@pytest.mark.parametrize("name", ["deepfloyd", "stable_diffusion", "flux"])
def test_images_measure_the_same_together_and_one_at_a_time(name):
    pipeline = getattr(tiny, name)()
    with Chromatograph(pipeline) as together:
        run(name, pipeline, num_images_per_prompt=3, generator=generators(3))
    with Chromatograph(pipeline) as alone:
        for generator in generators(3):
            run(name, pipeline, generator=generator)
            assert alone.images  # reading between two runs is no harm
    assert together.images == alone.images == 3
    for one, other in [(together.chromatogram, alone.chromatogram), (together.changes, alone.changes)]:
        np.testing.assert_allclose(one.rates, other.rates, atol=1e-5 * other.rates.max())
        np.testing.assert_allclose(one.replicates, other.replicates, atol=1e-5 * other.rates.max())


def test_without_guidance_the_chromatogram_is_the_growth_of_the_estimate():
    pipeline = tiny.deepfloyd()
    with Chromatograph(pipeline, keep="bands") as meter:
        run("deepfloyd", pipeline, guidance_scale=1.0, num_images_per_prompt=2)
    assert meter.images == 2
    assert np.array_equal(meter.chromatogram.rates, meter.growth.rates)
    assert all(record.guidance is None for record in meter.kept)
    with pytest.raises(ValueError, match="guidance was off"):
        _ = meter.guidance


def test_two_prompts_from_the_same_noise_are_no_guidance():
    pipeline = tiny.stable_diffusion(scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    both = torch.cat([embedded(1), embedded(2)])
    settings = {"guidance_scale": 1.0, "latents": latents, "prompt_embeds": both, "negative_prompt_embeds": None}
    with Chromatograph(pipeline) as meter:
        run("stable_diffusion", pipeline, **settings)
    assert meter.images == 2
    with Chromatograph(pipeline) as guided:
        run("stable_diffusion", pipeline, **settings | TEXT | {"guidance_scale": 3.0, "latents": latents[:1]})
    assert guided.images == 1
    assert guided.guidance.rates.min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_the_growth_of_an_exact_estimate_is_the_known_rate_of_its_distribution(prediction):
    field = GaussianField([0.3, 2.0, 6.0, 20.0])
    pipeline = tiny.exact(field, prediction)
    with Chromatograph(pipeline) as meter:
        pipeline(batch_size=128, num_inference_steps=60, generator=generators(128), output_type="np")
    measured = meter.chromatogram
    alpha = Schedule.from_diffusers(pipeline.scheduler).alpha(measured.edges)
    known = Chromatogram.from_signal(-field.losses(alpha), measured.edges, 8, "known")
    lower, upper = measured.interval(0.99, simultaneous=True)
    assert np.all((lower <= known.shares) & (known.shares <= upper))
    assert measured.compare(known).divergence < 5e-3
    wrong = Chromatogram.from_signal(-GaussianField(np.ones(4)).losses(alpha), measured.edges, 8, "another")
    assert not np.all((lower <= wrong.shares) & (wrong.shares <= upper))


@pytest.mark.lasting
def test_decoded_bands_are_those_of_the_images_that_the_latents_stand_for():
    pipeline = tiny.stable_diffusion()
    with (
        Chromatograph(pipeline, keep="bands") as latent,
        Chromatograph(pipeline, keep="bands", decoded=True) as decoded,
    ):
        run("stable_diffusion", pipeline)
    assert (latent.growth.size, decoded.growth.size) == (8, 16)
    assert latent.guidance.information().total > 0
    for other in (decoded.guidance, latent.growth, latent.changes):  # in no unit of the noise
        with pytest.raises(ValueError, match="only the energy of guidance of two noise predictions is in nats"):
            other.information()

    def decode(latents):
        return pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor + 0.1).sample

    for inner, outer in zip(latent.kept, decoded.kept, strict=True):
        images = decode(torch.from_numpy(inner.estimate)).detach()
        np.testing.assert_allclose(outer.estimate, images, rtol=1e-4, atol=1e-5)
        alpha = Schedule.from_diffusers(pipeline.scheduler).alpha(inner.timestep)
        # The estimates differ by the noise predictions' difference times the square root of the noise-to-signal ratio.
        other = torch.from_numpy(inner.estimate + inner.guidance * (1 / alpha - 1) ** 0.5).float()
        np.testing.assert_allclose(outer.guidance, images - decode(other).detach(), rtol=1e-3, atol=1e-4)


def test_what_is_kept_has_the_energies_that_are_told():
    pipeline = tiny.deepfloyd()
    with Chromatograph(pipeline, keep="bands") as meter:
        run("deepfloyd", pipeline, num_images_per_prompt=2)
    assert [record.timestep for record in meter.kept] == meter.timesteps.tolist()
    assert {each.dtype for record in meter.kept for each in record[1:]} == {np.dtype("float32")}
    estimates = [torch.from_numpy(record.estimate) for record in meter.kept]
    changes = [late - early for early, late in itertools.pairwise(estimates)]
    np.testing.assert_allclose(meter.changes.rates, energies(changes), rtol=1e-5)
    guidance = [torch.from_numpy(record.guidance) for record in meter.kept]
    np.testing.assert_allclose(meter.guidance.rates, energies(guidance), rtol=1e-5)


def test_a_cell_of_guidance_lies_around_its_timestep_and_growth_between_timesteps():
    pipeline = tiny.deepfloyd()
    with Chromatograph(pipeline) as meter:
        run("deepfloyd", pipeline)
    assert meter.timesteps.tolist() == [666, 333, 0]
    assert meter.guidance.edges.tolist() == [-1, 166.5, 499.5, 832.5]
    assert meter.growth.edges.tolist() == meter.changes.edges.tolist() == [0, 333, 666]


def test_runs_of_a_single_step_each_count():
    pipeline = tiny.deepfloyd()
    with Chromatograph(pipeline) as meter:
        for generator in generators(3):
            run("deepfloyd", pipeline, generator=generator, num_inference_steps=1)
    assert meter.images == 3
    assert meter.guidance.edges.tolist() == [-1, 999]
    with pytest.raises(ValueError, match="two or more timesteps"):
        _ = meter.growth


def held(value):
    """Return the bytes of all arrays and tensors within a value."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(held, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(held, value))
    kept = ("reschrom.theory.intervals", "reschrom.pipelines.chromatograph", "reschrom.pipelines.runs")
    return held(vars(value)) if type(value).__module__ in kept else 0


@pytest.mark.lasting
def test_the_memory_of_the_meter_does_not_grow_with_the_number_of_images():
    pipeline = tiny.ddim()
    sizes = []
    with Chromatograph(pipeline) as meter:
        for first in range(0, 32, 8):
            run("ddim", pipeline, batch_size=8, generator=generators(8, first))
            assert meter.images == first + 8
            sizes.append(held(vars(meter)))
    assert sizes[1:] == sizes[1:2] * 3  # the last run counts when it ends; until then its own steps are held
    assert 0 < sizes[1] < 300 * 3 * 4 * 3 * 8  # replicates, quantities, bands, steps, bytes


def test_nothing_stays_behind_a_run_that_fails():
    pipeline = tiny.deepfloyd()

    def fail(*_):
        raise RuntimeError("stop")

    meter = Chromatograph(pipeline, keep="bands")
    with pytest.raises(RuntimeError, match="stop"), meter:
        run("deepfloyd", pipeline, callback=fail)
    assert not pipeline.unet._forward_hooks
    with pytest.raises(ValueError, match="nothing was measured"):
        _ = meter.chromatogram
    assert not meter.kept
    with meter:
        run("deepfloyd", pipeline)
    assert meter.images == 1
    assert len(meter.kept) == 3


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda pipeline: None, {"num_inference_steps": 4}, "got 4 timesteps from 750 to 0 after 3 from 666 to 0"),
        (
            lambda pipeline: pipeline.scheduler.register_to_config(timestep_spacing="trailing"),
            {},
            "got 3 timesteps from 999 to 332 after 3 from 666 to 0",
        ),
        (
            lambda pipeline: pipeline.unet.register_to_config(sample_size=(8, 12)),
            {},
            "the same size; got 8x12 after 8x8",
        ),
    ],
    ids=["other steps", "as many other timesteps", "another size of as many bands"],
)
def test_runs_that_differ_in_more_than_their_images_are_refused(change, settings, message):
    pipeline = tiny.ddim()
    with Chromatograph(pipeline) as meter:
        run("ddim", pipeline)
        change(pipeline)
        run("ddim", pipeline, **settings)
        with pytest.raises(ValueError, match=message):
            _ = meter.images


def test_runs_with_and_without_guidance_are_refused():
    pipeline = tiny.deepfloyd()
    with Chromatograph(pipeline) as meter:
        run("deepfloyd", pipeline)
        run("deepfloyd", pipeline, guidance_scale=1.0)
        with pytest.raises(ValueError, match="the same guidance; got no guidance after some"):
            _ = meter.images


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_run_that_is_broken_off_is_not_counted_whenever_it_is(broken):
    def stop(step, *_):
        if step == 1:
            raise RuntimeError("stop")

    pipeline = tiny.deepfloyd()
    with Chromatograph(pipeline, keep="bands") as meter:
        for number in range(3):
            if number == broken:
                with pytest.raises(RuntimeError, match="stop"):
                    run("deepfloyd", pipeline, callback=stop)
            else:
                run("deepfloyd", pipeline)
    assert (meter.images, len(meter.kept)) == (2, 6)


@pytest.mark.parametrize("counts", [(1, 4), (4, 1)])
def test_a_whole_run_of_the_first_timesteps_of_another_is_none_that_was_broken_off(counts):
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
    pipeline = tiny.ddim(scheduler=scheduler)
    with Chromatograph(pipeline) as meter:
        for count in counts:
            run("ddim", pipeline, num_inference_steps=count)
        with pytest.raises(
            ValueError, match=rf"the same timesteps .*got {counts[1]} timesteps from 9.* after {counts[0]}"
        ):
            _ = meter.images


def test_growth_weighs_a_time_by_what_an_error_of_the_network_does_there():
    with Chromatograph(tiny.ddim()) as meter:
        run("ddim", meter._pipeline)
    source = meter.growth.source
    np.testing.assert_allclose(source.precision, estimate_precision(source.alphas, "epsilon"), rtol=1e-6)


def test_images_are_counted_from_0_unless_told():
    with Chromatograph(tiny.ddim()) as meter:
        run("ddim", meter._pipeline)
    assert meter.growth.source.energies.numbers == ((0, meter.growth.images),)


def test_what_cannot_be_measured_is_refused_with_what_was_looked_for():
    with pytest.raises(TypeError, match="`unet` or `transformer`, and a `scheduler`; got str"):
        Chromatograph("runwayml/stable-diffusion-v1-5")
    with pytest.raises(TypeError, match=r"alphas_cumprod.* got IPNDMScheduler"):
        Chromatograph(tiny.ddpm(scheduler=diffusers.IPNDMScheduler()))
    with pytest.raises(ValueError, match="keep"):
        Chromatograph(tiny.ddim(), keep="images")
    with pytest.raises(ValueError, match="`vae` has one scaling factor; that of DDPMPipeline has none"):
        Chromatograph(tiny.ddpm(), decoded=True)


@pytest.mark.lasting
@pytest.mark.parametrize("kind", ["guidance", "growth", "changes"])
def test_measurements_of_other_images_merge_to_that_of_all(tmp_path, kind):
    def measured(first, count, **settings):
        pipeline = tiny.stable_diffusion()
        with Chromatograph(pipeline, first_image=first, **settings) as meter:
            pipeline(
                **TEXT,
                num_images_per_prompt=count,
                num_inference_steps=4,
                output_type="latent",
                generator=tiny.generators(count, first),
            )
        return getattr(meter, kind)

    whole, parts = measured(0, 5), []
    for first, count, name in ((0, 2, "a.npz"), (2, 3, "b.json")):
        measured(first, count).save(tmp_path / name)
        parts.append(Chromatogram.load(tmp_path / name))
    merged = Chromatogram.merge(parts[::-1])
    scale = whole.rates.max()
    np.testing.assert_allclose(merged.rates, whole.rates, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(merged.replicates, whole.replicates, rtol=1e-5, atol=1e-6 * scale)
    assert (merged.images, merged.name) == (5, whole.name)
    with pytest.raises(ValueError, match=r"image 2 comes twice"):
        Chromatogram.merge([whole, parts[1]])
    with pytest.raises(ValueError, match=r"one seed of their weights"):
        Chromatogram.merge([parts[0], measured(2, 3, seed=1)])
    later = dataclasses.replace(parts[1], edges=parts[1].edges + 1)
    with pytest.raises(ValueError, match=r"the time grid differs"):
        Chromatogram.merge([parts[0], later])
    with pytest.raises(ValueError, match=r"prompt differs: a and None"):
        Chromatogram.merge([dataclasses.replace(parts[0], about={"prompt": "a"}), parts[1]])
    with pytest.raises(ValueError, match=r"only measurements of a Chromatograph merge"):
        Chromatogram.merge([parts[0], dataclasses.replace(parts[1], source=None)])
    with pytest.raises(ValueError, match=r"only measurements"):
        Chromatogram.merge([])


def test_each_step_is_shown_as_soon_as_it_is_measured():
    pipeline, seen = tiny.ddim(), []
    with Chromatograph(pipeline, watch=seen.append) as meter:
        pipeline(batch_size=2, num_inference_steps=3, generator=tiny.generators(2), output_type="np")
        assert len(seen) == 3
    assert [record.timestep for record in seen] == meter.timesteps.tolist()
    assert seen[0].estimate.shape == (2, 3, 8, 8)
    assert meter.kept == []
