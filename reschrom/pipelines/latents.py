"""Pictures as a latent model sees them: encoded by its VAE and scaled as its denoiser expects."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

Images = Float[np.ndarray, "..."]  # their number, channels and size change on the way


def encoded(pipeline: Any, batches: Iterable[Images], seed: int = 0) -> Iterator[Images]:
    """Encode batches of images into the latents that the pipeline's denoiser is trained on, one batch after another.

    pipeline: a latent diffusion pipeline, whose `vae` gives a distribution of latents (AutoencoderKL).
    batches: images in [-1, 1], shape (N, 3, H, W).
    seed: of the draws from that distribution.
    Raises TypeError for a pipeline without such a VAE.
    """
    import torch

    vae: Any = getattr(pipeline, "vae", None)
    if not hasattr(getattr(vae, "config", None), "scaling_factor"):
        raise TypeError(f"a latent model is needed, with a VAE of one scaling factor; got {type(pipeline).__name__}")
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        with torch.no_grad():
            drawn = vae.encode(torch.tensor(batch).to(vae.device, vae.dtype)).latent_dist.sample(generator)
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        yield ((drawn.cpu().double() - shift) * vae.config.scaling_factor).numpy()
