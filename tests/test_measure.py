"""The chromatograph: what it measures is what the pipeline did, and it changes nothing."""

import numpy as np
import pipelines
import pytest
import torch

from reschrom.measure import Chromatograph
from reschrom.resolution import band_energies

TEXT = {"prompt_embeds": pipelines.embedded(1), "negative_prompt_embeds": pipelines.embedded(2)}
LATENT = {"output_type": "latent", "num_inference_steps": 3}
PIXEL = {"output_type": "pt", "num_inference_steps": 3}
RUNS = {
    "deepfloyd": PIXEL | TEXT,
    "stable_diffusion": LATENT | TEXT,
    "ddim": PIXEL | {"output_type": "np"},
    "ddpm": PIXEL | {"output_type": "np"},
}


def run(pipeline, **settings):
    return pipeline(**({"generator": torch.Generator().manual_seed(0)} | settings)).images


@pytest.mark.parametrize("name", RUNS)
def test_a_pipeline_makes_the_same_images_with_and_without_the_meter(name):
    pipeline = getattr(pipelines, name)()
    without = run(pipeline, **RUNS[name])
    with Chromatograph(pipeline) as meter:
        measured = run(pipeline, **RUNS[name])
    assert np.array_equal(np.asarray(without), np.asarray(measured))
    assert meter.images == 1
    assert meter.changes.rates.min() > 0
    assert np.array_equal(meter.changes.edges, meter.timesteps[::-1])


def test_guidance_is_the_energy_of_the_difference_of_predictions():
    pipeline = pipelines.deepfloyd()
    seen = {}

    def listen(module, args, kwargs, output):
        unconditional, conditional = output[0][:, :3].chunk(2)
        seen[int(args[1])] = band_energies(conditional - unconditional)[:, 0].numpy()

    hook = pipeline.unet.register_forward_hook(listen, with_kwargs=True)
    with Chromatograph(pipeline) as meter:
        run(pipeline, **RUNS["deepfloyd"])
    hook.remove()
    assert meter.timesteps.tolist() == list(seen)
    np.testing.assert_allclose(meter.guidance.rates, np.stack(list(seen.values())[::-1], axis=1), rtol=1e-5)
