"""What a pipeline works on as pictures to look at: pixels as they are, latents decoded or in false colours."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from reschrom.pipelines.latents import pictured

LATENTS = 3 * np.random.default_rng(0).standard_normal((2, 4, 8, 8))


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_pixels_are_shown_as_they_are_within_their_range(channels, shown):
    pixels = LATENTS[:, :channels]
    np.testing.assert_array_equal(pictured(tiny.ddim(), pixels), np.clip(pixels[:, :shown], -1, 1))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_false_colours_fill_the_range_whatever_the_size_of_latents(size):
    pipeline = SimpleNamespace(vae=SimpleNamespace(config=SimpleNamespace()))
    expected = LATENTS[:, :3] / np.abs(LATENTS[:, :3]).max()
    np.testing.assert_allclose(pictured(pipeline, size * LATENTS), expected)
    np.testing.assert_array_equal(pictured(pipeline, 0 * LATENTS), 0 * expected)


@pytest.mark.parametrize("build", [tiny.ddim, tiny.stable_diffusion])
def test_the_middle_frame_of_a_video_is_shown_and_that_of_its_latents_in_false_colours(build):
    video = np.stack([2 * LATENTS, 0.5 * LATENTS, 3 * LATENTS], axis=1)
    furthest = 1 if build is tiny.ddim else np.abs(video[:, 1, :3]).max()
    np.testing.assert_allclose(pictured(build(), video), np.clip(video[:, 1, :3] / furthest, -1, 1))


@pytest.mark.parametrize("shift", [None, 0.25])
def test_latents_are_decoded_in_the_units_of_their_autoencoder(shift):
    pipeline = tiny.stable_diffusion()
    pipeline.vae.register_to_config(scaling_factor=2.0, shift_factor=shift)
    latents = LATENTS[:, : pipeline.vae.config.latent_channels]
    with torch.no_grad():
        decoded = pipeline.vae.decode(torch.tensor(latents / 2 + (shift or 0)).float()).sample
    np.testing.assert_allclose(pictured(pipeline, latents), np.clip(decoded.numpy(), -1, 1), atol=1e-6)
