"""The chromatograph: what it measures is what the pipeline did, and it changes nothing."""

import numpy as np
import pipelines
import pytest
import torch

from reschrom.measure import Chromatograph
from reschrom.resolution import band_energies

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXT = {"prompt_embeds": pipelines.embedded(1), "negative_prompt_embeds": pipelines.embedded(2)}
LATENT = {"output_type": "latent", "num_inference_steps": 3}
PIXEL = {"output_type": "pt", "num_inference_steps": 3}
POOLED = {
    "pooled_prompt_embeds": TEXT["prompt_embeds"][:, 0],
    "negative_pooled_prompt_embeds": TEXT["negative_prompt_embeds"][:, 0],
}
MASKS = {"prompt_attention_mask": torch.ones(1, 4), "negative_prompt_attention_mask": torch.ones(1, 4)}
SIZE = {"height": 16, "width": 16}
RUNS = {
    "deepfloyd": PIXEL | TEXT,
    "stable_diffusion": LATENT | TEXT,
    "stable_diffusion_xl": LATENT | TEXT | POOLED,
    "pixart": LATENT | TEXT | MASKS | SIZE | {"negative_prompt": None, "use_resolution_binning": False},
    "stable_diffusion_3": LATENT | TEXT | POOLED | SIZE,
    "flux": LATENT
    | SIZE
    | {"prompt_embeds": TEXT["prompt_embeds"], "pooled_prompt_embeds": POOLED["pooled_prompt_embeds"]},
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
