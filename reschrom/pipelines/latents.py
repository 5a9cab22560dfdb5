"""Pictures as a latent model sees them: encoded by its VAE and scaled as its denoiser expects."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

Images = Float[np.ndarray, "..."]  # their number, channels and size change on the way


def encoded(pipeline: Any, batches: Iterable[Images], seed: int = 0, first_image: int = 0) -> Iterator[Images]:
    """Encode batches of images into the latents that the pipeline's denoiser is trained on, one batch after another.

    pipeline: a latent diffusion pipeline, whose `vae` gives a distribution of latents (AutoencoderKL).
    batches: images in [-1, 1], shape (N, 3, H, W).
    seed: of the draws from that distribution; every image has its own, by its number, whatever is encoded with it.
    first_image: the number of the first image.
    Raises TypeError for a pipeline without such a VAE.
    """
    import torch

    vae: Any = getattr(pipeline, "vae", None)
    if not hasattr(getattr(vae, "config", None), "scaling_factor"):
        raise TypeError(f"a latent model is needed, with a VAE of one scaling factor; got {type(pipeline).__name__}")
    for batch in batches:
        generators = [torch.Generator().manual_seed(seed + first_image + index) for index in range(len(batch))]
        first_image += len(batch)
        with torch.no_grad():
            drawn = vae.encode(torch.tensor(batch).to(vae.device, vae.dtype)).latent_dist.sample(generators)
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        yield ((drawn.cpu().double() - shift) * vae.config.scaling_factor).numpy()


def pictured(pipeline: Any, images: Images) -> Images:
    """Return images that a pipeline works on as pictures to look at: (N, 3, H, W) or (N, 1, H, W) in [-1, 1].

    images: (N, C, H, W), pixels or latents, or videos (N, F, C, H, W), of which the frame in the middle is shown.
        Latents of images are decoded by the `vae`; those of videos, and where it has no single scaling factor, are
        shown in false colours, their first three channels. A frame of latents stands for several of the video, so that
        it has no picture of its own.
    """
    import torch

    vae: Any = getattr(pipeline, "vae", None)
    if images.ndim == 5:
        images = images[:, images.shape[1] // 2]
    elif hasattr(getattr(vae, "config", None), "scaling_factor"):
        latents = torch.tensor(images) / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        with torch.no_grad():
            decoded = vae.decode(latents.to(pipeline.device, vae.dtype), return_dict=False)[0]
        return np.clip(decoded.float().cpu().numpy(), -1, 1)
    shown = images[:, : 3 if images.shape[1] >= 3 else 1]
    furthest = 1.0 if vae is None else max(float(np.abs(shown).max()), 1e-6)
    return np.clip(shown / furthest, -1, 1)
