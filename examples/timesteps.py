"""Choose timesteps that spend the steps where signal is generated, and draw with them. Needs the extra `diffusers`."""

import numpy as np
import torch

from reschrom import Chromatogram, Schedule, designed_timesteps, load_pipeline

pipeline = load_pipeline("data/models/pocket-if-64")
schedule = Schedule.from_diffusers(pipeline.scheduler)
edges = np.arange(schedule.start, schedule.end + 1)

predicted = Chromatogram.predicted(schedule, 64, edges=edges)  # or what a Chromatograph measured
timesteps = designed_timesteps(predicted, schedule, steps=8)
print("timesteps", timesteps)

generator = torch.Generator().manual_seed(0)
images = pipeline("a photo of a starfish", timesteps=timesteps, generator=generator, output_type="pt").images
print("drawn", tuple(images.shape))
