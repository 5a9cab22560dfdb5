"""Make one model of a small one and a residual one, and draw with it. Needs the extra `diffusers`."""

import torch
from diffusers import DDIMPipeline

from reschrom import CascadedUNet, downsample, load_pipeline

low = load_pipeline("data/models/pocket-lowres-16")
cascade = CascadedUNet(low, load_pipeline("data/models/pocket-residual-32"))
low.set_progress_bar_config(disable=True)
pipeline = DDIMPipeline(cascade, low.scheduler)  # any pipeline or sampler that takes a UNet2DModel

images = pipeline(4, generator=torch.Generator().manual_seed(0), num_inference_steps=10, output_type="np").images
print("drawn", images.shape)

alone = low(4, generator=torch.Generator().manual_seed(0), num_inference_steps=10, output_type="np").images
coarse = downsample(images.transpose(0, 3, 1, 2), 1)
print(f"mean brightness: cascade {coarse.mean():.2f}, low-resolution model {alone.mean():.2f}")

pipeline.numpy_to_pil(images)[0].resize((256, 256), 0).save("cascade.png")
