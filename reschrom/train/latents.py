"""Latents as Stable Diffusion has them: an autoencoder trained here, and a pipeline that draws in its latents."""

import json
from typing import TYPE_CHECKING, Any

from reschrom._files import shipped
from reschrom.train.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from reschrom.train.batches import Batch

CHANNELS = 4  # of the latents
# Of one latent's divergence from a normal variable, in nats, beside the error of a pixel: enough to keep latents near
# the origin, and so little that they lose no detail.
_DIVERGENCE = 5e-4
_LAST_TOKEN = "<|endoftext|>"


def autoencoder(recipe: Recipe) -> Any:
    """Return a new `AutoencoderKL`; each of its blocks but the last halves the sides."""
    from diffusers import AutoencoderKL

    blocks = len(recipe.channels)
    return AutoencoderKL(
        sample_size=recipe.size,
        block_out_channels=recipe.channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def read_autoencoder(recipe: Recipe) -> Any:
    """Return the trained autoencoder that a recipe names.

    Raises ValueError where there is none, or its pictures are of another size.
    """
    from diffusers import AutoencoderKL

    try:
        trained = AutoencoderKL.from_pretrained(shipped(recipe.autoencoder), local_files_only=True)
    except (OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"autoencoder of a recipe must be the folder of a trained one: {said}") from error
    if trained.config.sample_size != recipe.size:
        raise ValueError(
            f"autoencoder of a recipe must be of pictures of {recipe.size} pixels; got {trained.config.sample_size}"
        )
    return trained.requires_grad_(False)


def latent_pipeline(recipe: Recipe, blocks: dict[str, Any]) -> Any:
    """Return a new `StableDiffusionPipeline` around a trained autoencoder; `blocks` are the settings of its network."""
    from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    vae, tokenizer = read_autoencoder(recipe), _tokenizer(recipe)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=2 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    side = latent_shape(vae)[-1]
    unet: Any = UNet2DConditionModel(
        **{**blocks, "sample_size": side, "in_channels": CHANNELS},
        out_channels=CHANNELS,
        mid_block_type="UNetMidBlock2DCrossAttn",
        attention_head_dim=4,
        cross_attention_dim=recipe.text_width,
    )
    # The noise schedule of Stable Diffusion, which ends before all signal is lost.
    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        variance_type="fixed_small",
        clip_sample=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def latent_shape(vae: Any) -> tuple[int, int, int]:
    """Return channels and sides of the latents of one picture."""
    side = vae.config.sample_size >> (len(vae.config.block_out_channels) - 1)
    return vae.config.latent_channels, side, side


def encode(vae: Any, pictures: "torch.Tensor", noise: "torch.Tensor") -> "torch.Tensor":
    """Return latents, drawn from what the autoencoder says of each picture, on the scale that the denoiser sees."""
    import torch

    with torch.no_grad():
        said = vae.encode(pictures).latent_dist
        return (said.mean + said.std * noise) * vae.config.scaling_factor


def autoencoding(vae: Any) -> "torch.nn.Module":
    """Return a module that maps pictures and noise to the pictures that come back and the divergence of the latents."""
    import torch

    class Autoencoding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = vae

        def forward(self, pictures: Any, noise: Any) -> tuple[Any, Any]:
            said = self.vae.encode(pictures).latent_dist
            divergence = (said.mean.square() + said.var - 1 - said.logvar) / 2
            return self.vae.decode(said.mean + said.std * noise).sample, divergence

    return Autoencoding()


def autoencoding_loss(network: "torch.nn.Module", batch: "Batch", accelerator: "Accelerator") -> "torch.Tensor":
    """Return the error of what comes back, of the finest band once more, and the divergence of the latents."""
    from torch.nn.functional import avg_pool2d, interpolate

    with accelerator.autocast():
        returned, divergence = network(batch.x_t, batch.target)
    error = returned.float() - batch.x_t
    finest = error - interpolate(avg_pool2d(error, 2), scale_factor=2.0)
    return error.abs().mean() + finest.abs().mean() + _DIVERGENCE * divergence.mean()


def set_scale(vae: Any, pictures: "torch.Tensor", noise: "torch.Tensor") -> None:
    """Set the factor that gives the latents of these pictures the variance 1."""
    vae.register_to_config(scaling_factor=1.0)
    vae.register_to_config(scaling_factor=float(1 / encode(vae, pictures, noise).std()))


def _tokenizer(recipe: Recipe) -> Any:
    """Return a CLIP tokenizer whose pieces of words were learned on the captions."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789-'.,")
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        special_tokens=["<|startoftext|>", _LAST_TOKEN],
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([caption.lower() for caption in recipe.captions], trainer)
    vocabulary = learner.get_vocab()
    # Pairs, which the tokenizer takes and its annotation does not know.
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    for letter in letters:
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=16)
