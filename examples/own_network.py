"""Train a small network of your own on handwritten digits, and measure it. Needs the extras `diffusers` and `data`."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from reschrom import Denoiser, Schedule, rates_from_losses

digits = load_digits().images[:, None] / 16  # 8x8 pixels, one channel, values in [0, 1]
torch.manual_seed(0)
shapes = [torch.nn.Linear(64 + 1, 256), torch.nn.SiLU(), torch.nn.Linear(256, 256), torch.nn.SiLU()]
layers = torch.nn.Sequential(*shapes, torch.nn.Linear(256, 64))


def velocity(x, t):
    return layers(torch.cat([x.flatten(1), t[:, None]], dim=1)).reshape(x.shape)


optimizer, known = torch.optim.Adam(layers.parameters(), 2e-3), torch.tensor(digits[:1400], dtype=torch.float32)
for _ in range(1000):
    x_0, t = known[torch.randint(1400, (256,))], torch.rand(256, 1, 1, 1)
    noise = torch.randn(x_0.shape)
    optimizer.zero_grad()
    (velocity((1 - t) * x_0 + t * noise, t.flatten()) - (noise - x_0)).square().mean().backward()
    optimizer.step()

denoise = Denoiser(velocity, prediction="flow", schedule=Schedule.flow_matching(), value_range=(0, 1), channels=1)
edges, rng = np.linspace(0, 1, 21), np.random.default_rng(0)
measured = rates_from_losses(denoise, digits[1400:], denoise.schedule, edges, rng, "digits")  # unseen in training
print("generated at", dict(zip(measured.band_names, measured.centroids().round(2).tolist(), strict=True)))
