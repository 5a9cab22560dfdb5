"""Draw a pear that becomes a coconut, and see what each resolution keeps of it. Needs the extra `diffusers`."""

import torch

from reschrom import PromptSchedule, band_names, decided_share, heaviside, load_pipeline

FIRST, SECOND = "a photo of a pear", "a photo of a coconut"
pipeline = load_pipeline("data/models/pocket-sd-64")


def drawn(prompt):
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    settings = {"num_images_per_prompt": 4, "num_inference_steps": 10, "output_type": "pt"}
    return pipeline(prompt, generator=generators, **settings).images.numpy()


with PromptSchedule(pipeline, [FIRST, SECOND], heaviside(0.5)):  # the second from t = T / 2 down
    switched = drawn(FIRST)

decided = decided_share(switched, drawn(FIRST), drawn(SECOND))
# The mean goes more than half of the way to that of a coconut, while the finest resolutions, which hold the outline,
# stay the pear's.
print(f"share that the second prompt, {SECOND!r}, decides:")
for name, share in zip(band_names(64), decided.share, strict=True):
    print(f"  {name:>5}  {share:4.0%}")
