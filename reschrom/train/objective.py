"""What is trained, as one module, what it sees, and its loss."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from reschrom.train.batches import Batch, Batches
from reschrom.train.latents import PictureBatch, PictureBatches, autoencoding, autoencoding_loss
from reschrom.train.recipe import Recipe

if TYPE_CHECKING:
    import torch


def trained_module(pipeline: Any) -> "torch.nn.Module":
    """Return all that is trained of a pipeline as one module, which is what `accelerate` spreads over processes."""
    import torch
    from diffusers import AutoencoderKL
    from diffusers.models.attention_processor import Attention, AttnProcessor

    if isinstance(pipeline, AutoencoderKL):
        return autoencoding(pipeline).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]

    class Denoiser(torch.nn.Module):
        """The denoiser and its text encoder."""

        def __init__(self) -> None:
            super().__init__()
            self.unet = pipeline.unet
            self.text_encoder: Any = getattr(pipeline, "text_encoder", None)

        def forward(self, x_t: Any, timesteps: Any, tokens: Any = None, mask: Any = None) -> Any:
            if tokens is None:
                text: tuple[Any, ...] = ()
            else:
                # A batch has few captions many times; each is read once. With its mask, which its tokens fix.
                read, places = torch.cat([tokens, mask], dim=1).unique(dim=0, return_inverse=True)
                tokens, mask = read.chunk(2, dim=1)
                # StableDiffusionPipeline shows its encoder the padding, too.
                masked = {} if hasattr(pipeline, "vae") else {"attention_mask": mask}
                text = (self.text_encoder(tokens, **masked)[0][places],)
            return self.unet(x_t, timesteps, *text, return_dict=False)[0][:, : x_t.shape[1]]

    # On a CPU plain matrix products train these small attention blocks a sixth faster than the fused kernel.
    for module in pipeline.unet.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())
    denoiser: Any = Denoiser()
    return denoiser.to(memory_format=torch.channels_last).train()


def batches_of(pipeline: Any, pictures: np.ndarray, recipe: Recipe, processes: int) -> Batches | PictureBatches:
    """Return what draws the batch of every step that trains this pipeline."""
    draws = PictureBatches if recipe.kind == "autoencoder" else Batches
    return draws(pipeline, pictures, recipe, processes)


def autocast(recipe: Recipe, device: "torch.device") -> AbstractContextManager[Any]:
    """Return the block in which networks compute in the precision of a recipe.

    Not that of `accelerate`, which is one for the whole process, where several trainings may follow one another.
    """
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def step_loss(network: "torch.nn.Module", batch: Batch | PictureBatch, recipe: Recipe) -> "torch.Tensor":
    """Return the loss of one step: that of an autoencoder, or the weighted squared error of what is predicted.

    With `recipe.coarse` the errors of all coarser resolutions are added.
    With `recipe.consistency`, pictures without their caption add the squared distance from the prediction with it,
    every step of log SNR counting alike. It moves the prediction with the caption only from `recipe.evident` on.
    """
    import torch

    if isinstance(batch, PictureBatch):
        with autocast(recipe, batch.pictures.device):
            returned, divergence = network(*batch)
        return autoencoding_loss(returned, divergence, batch.pictures, recipe.texture)
    with autocast(recipe, batch.x_t.device):
        predicted = network(batch.x_t, batch.timesteps, *batch.text).float()
    loss, error = predicted.new_zeros(()), predicted - batch.target
    for level, weight in enumerate(batch.weights):
        if level:  # twice the average of four, so that noise keeps its variance
            error = 2 * torch.nn.functional.avg_pool2d(error, 2)
        loss = loss + (error.square().mean(dim=(1, 2, 3)) * weight).mean()
    places = batch.uncaptioned
    if not recipe.consistency or not len(places):
        return loss
    # Where the caption tells something, the prediction with it shall not move towards the one without.
    with torch.set_grad_enabled(bool(batch.evident.any())), autocast(recipe, batch.x_t.device):
        conditional = network(batch.x_t[places], batch.timesteps[places], *batch.left_out).float()
    conditional = torch.where(batch.evident[:, None, None, None], conditional, conditional.detach())
    apart = (predicted[places] - conditional).square().mean(dim=(1, 2, 3))
    return loss + recipe.consistency * (apart * batch.nats[places]).sum() / len(batch.x_t)
