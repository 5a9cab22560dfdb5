"""Measure which resolution a trained model generates at each step. Needs the extra `diffusers`."""

import torch

from reschrom import Chromatograph, load_pipeline

pipeline = load_pipeline("data/models/pocket-if-64")  # or your folder, or an id on the hub
with Chromatograph(pipeline) as meter:
    pipeline(
        "a photo of a sunflower",
        num_images_per_prompt=4,
        num_inference_steps=10,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    )

measured = meter.chromatogram  # the energy of guidance, Eq. (19)
print(f"share of each resolution in the guidance of {meter.images} images:")
print("timestep", *(f"{name:>6}" for name in measured.band_names))
for timestep, shares in zip(meter.timesteps, measured.shares.T[::-1], strict=True):
    print(f"{timestep:8g}", *(f"{share:6.2f}" for share in shares))

measured.plot().savefig("measured.png")
