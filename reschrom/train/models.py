"""Small models that diffusers loads like any other: with captions an IFPipeline with its own T5 encoder, or without."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reschrom._files import shipped
from reschrom.design.schedules import designed_schedule, scheduler_for
from reschrom.theory.schedules import Schedule
from reschrom.train.dvdp import staged_pipeline
from reschrom.train.latents import autoencoder, latent_pipeline, read_autoencoder
from reschrom.train.recipe import Recipe
from reschrom.train.text import t5_tokenizer

_HEADS = 4


def build(recipe: Recipe) -> Any:
    """Return a new pipeline with the random weights of `recipe.seed`.

    An IFPipeline for t2i, or a StableDiffusionPipeline where it has an autoencoder; an AutoencoderKL for autoencoder,
    a DVDPPipeline for dvdp, a DDIMPipeline otherwise.
    Raises ValueError, naming the setting, for a network that cannot be, a schedule whose spectrum is of another size,
    and contents that the tokenizer cannot tell apart; OSError for a spectrum that cannot be read.
    """
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel

    vae = read_autoencoder(recipe) if recipe.autoencoder else None
    _check_network(recipe, vae)
    ancestral: Any = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_small",
        clip_sample=True,
        prediction_type=_prediction_type(recipe),
        # A network of the velocity knows what to say at the noisiest time, so its samples begin there.
        timestep_spacing="trailing" if recipe.prediction == "velocity" else "leading",
    )
    if recipe.schedule != "cosine":
        betas = scheduler_for(_designed(recipe)).config.trained_betas
        ancestral = DDPMScheduler.from_config(ancestral.config, trained_betas=betas)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if recipe.kind == "autoencoder":
            return autoencoder(recipe)
        if recipe.kind == "t2i":
            # Fresh noise at every step mends what the network got wrong in pure noise; DDIM keeps it, as wrong colours.
            captioned = (
                _captioned(recipe, ancestral)
                if vae is None
                else latent_pipeline(recipe, vae, _blocks(recipe, "CrossAttn"), _prediction_type(recipe))
            )
            if recipe.start:
                _begin_with(captioned.unet, recipe.start)
                _read_as(captioned, recipe.start)
            return captioned
        unet: Any = UNet2DModel(**_blocks(recipe, "Attn"), out_channels=3)
    if recipe.start:
        _begin_with(unet, recipe.start)
    if recipe.kind == "dvdp":
        return staged_pipeline(recipe, unet)
    return DDIMPipeline(unet=unet, scheduler=DDIMScheduler.from_config(ancestral.config))


def _prediction_type(recipe: Recipe) -> str:
    return {"noise": "epsilon", "velocity": "v_prediction"}[recipe.prediction]


def _check_network(recipe: Recipe, vae: Any) -> None:
    """Refuse what no network can be; a recipe of pictures alone may say anything of its network."""
    blocks = len(recipe.channels)
    attentive = recipe.kind == "autoencoder" or 1 <= recipe.attentive <= blocks
    if not attentive or any(width % 8 for width in recipe.channels):
        raise ValueError(
            f"channels must be multiples of 8, and 1 to {blocks} of their blocks attentive; got "
            f"{recipe.channels} and {recipe.attentive}"
        )
    if recipe.layers and len(recipe.layers) != blocks:
        raise ValueError(
            f"layers of a recipe must be one number for each of its {blocks} channels; got {recipe.layers}"
        )
    widths = (recipe.channels[0], *recipe.channels)
    if any(not count and new != old for count, old, new in zip(recipe.layers, widths, recipe.channels, strict=False)):
        raise ValueError(
            "layers of a recipe must be 1 or more where channels change, because layers change them; got "
            f"{recipe.layers} and {recipe.channels}"
        )
    stages = len(recipe.turning_points) if recipe.kind == "dvdp" else 0
    encoded = 0 if vae is None else len(vae.config.block_out_channels) - 1
    halvings = blocks - 1 + stages + recipe.halvings + encoded
    # The network of t2i brings odd sides back to their size on its way up; the other ones do not.
    if recipe.size < 2**halvings or (recipe.kind != "t2i" and recipe.size % 2**halvings):
        raise ValueError(
            f"size of a recipe must be a multiple of {2**halvings}, because {blocks} blocks of channels"
            f"{f' and {stages} turning points' if stages else ''}"
            f"{f' and {recipe.halvings} halvings' if recipe.halvings else ''}"
            f"{f' and {encoded + 1} blocks of the autoencoder' if encoded else ''} halve it "
            f"{halvings} times; got {recipe.size}"
        )
    if recipe.batch == 1 and not stages and recipe.size == 2**halvings and 8 in recipe.channels[-2:]:
        raise ValueError(
            "batch of a recipe must be 2 or more, because 8 channels of one pixel are no groups that could be "
            "normalised; got 1"
        )
    if recipe.kind in ("autoencoder", "residual") and recipe.size % 2:  # their losses take 2x2 averages
        raise ValueError(f"size of a recipe of {recipe.kind} must be even; got {recipe.size}")


@contextmanager
def _of_the_same_network() -> Iterator[None]:
    """Say in one line that a model is none whose weights a training can begin with."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"start of a recipe must be the folder of a model of the same network: {said}") from error


def _begin_with(unet: Any, start: str) -> None:
    """Give a denoiser the weights of a trained one."""
    from safetensors.torch import load_model

    with _of_the_same_network():
        load_model(unet, shipped(start) / "unet" / "diffusion_pytorch_model.safetensors")


def _read_as(pipeline: Any, start: str) -> None:
    """Give the text encoder the weights of a trained one, and each word that both know its embedding."""
    tokenizer, encoder, folder = pipeline.tokenizer, pipeline.text_encoder, shipped(start)
    with _of_the_same_network():
        known = type(tokenizer).from_pretrained(folder / "tokenizer", local_files_only=True).get_vocab()
        trained = type(encoder).from_pretrained(folder / "text_encoder", local_files_only=True)
        learned = trained.get_input_embeddings().weight
        embeddings = encoder.get_input_embeddings().weight.detach().clone()
        for word, index in tokenizer.get_vocab().items():
            if word in known:
                embeddings[index] = learned[known[word]]
        trained.get_input_embeddings().weight.data = embeddings
        encoder.load_state_dict(trained.state_dict())


def _designed(recipe: Recipe) -> Schedule:
    try:
        return designed_schedule(recipe.size, Path(recipe.schedule))
    except OSError as error:
        raise type(error)(f"schedule of a recipe must be cosine or the file of a spectrum: {error}") from error
    except ValueError as error:
        raise ValueError(f"schedule of a recipe: {error}") from error


def _captioned(recipe: Recipe, scheduler: Any) -> Any:
    import torch
    from diffusers import IFPipeline, UNet2DConditionModel
    from transformers import T5Config, T5EncoderModel

    tokenizer = t5_tokenizer(recipe)
    text_encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=recipe.text_width,
            d_kv=recipe.text_width // _HEADS,
            d_ff=2 * recipe.text_width,
            num_layers=recipe.text_layers,
            num_heads=_HEADS,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )
    unet: Any = UNet2DConditionModel(
        **_blocks(recipe, "CrossAttn"),
        out_channels=6,
        mid_block_type="UNetMidBlock2DCrossAttn",
        attention_head_dim=_HEADS,
        cross_attention_dim=recipe.text_width,
        addition_embed_type="text",
        addition_embed_type_num_heads=_HEADS,
    )
    # IFPipeline splits the output into noise and variance. Only the noise is learned; the scheduler fixes the variance.
    torch.nn.init.zeros_(unet.conv_out.weight[3:])
    torch.nn.init.zeros_(unet.conv_out.bias[3:])
    return IFPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def _blocks(recipe: Recipe, attention: str) -> dict[str, Any]:
    plain = len(recipe.channels) - recipe.attentive
    return {
        "sample_size": recipe.size,
        "block_out_channels": recipe.channels,
        "layers_per_block": recipe.layers or 1,
        "in_channels": 3,
        "down_block_types": ("DownBlock2D",) * plain + (f"{attention}DownBlock2D",) * recipe.attentive,
        "up_block_types": (f"{attention}UpBlock2D",) * recipe.attentive + ("UpBlock2D",) * plain,
        "resnet_time_scale_shift": "scale_shift",
        "norm_num_groups": 8,
    }
