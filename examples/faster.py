"""Show the network fewer pixels early, and guide only early: what both save. Needs the extra `diffusers`."""

import torch

from reschrom import CoarseFirst, GuidanceSchedule, band_spectrum, load_pipeline


def drawn(pipeline, *prompt, images=8, **settings):
    generator, count = torch.Generator().manual_seed(0), {"num_images_per_prompt" if prompt else "batch_size": images}
    given = {"num_inference_steps": 10, "generator": generator, "output_type": "np", **count, **settings}
    return pipeline(*prompt, **given).images


fruit = load_pipeline("data/models/pocket-any-64")  # one network that knows 64x64, 32x32 and 16x16 pixels
spectrum = band_spectrum(2 * drawn(fruit).transpose(0, 3, 1, 2) - 1)  # better: of your data, `reschrom spectrum`
coarse = CoarseFirst(fruit, spectrum, tolerance=0.05, levels=2, steps=10)
with coarse:
    drawn(fruit)
print("halved once from timestep {:.0f} on, twice from {:.0f}".format(*coarse.turning_points))
print(f"the network sees {coarse.expected.pixels:.0%} of the pixels")

captioned = load_pipeline("data/models/pocket-if-64")
with GuidanceSchedule(captioned, lambda t: float(t > 0.45)) as block:
    drawn(captioned, "a photo of a lemon", images=1, guidance_scale=3.0)
print(f"{block.skipped} of {block.steps} steps without the unconditional prediction")
