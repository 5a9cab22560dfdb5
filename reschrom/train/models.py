"""Small models that diffusers loads like any other: with captions an IFPipeline with its own T5 encoder, or without."""

from pathlib import Path
from typing import Any

from reschrom._files import shipped
from reschrom.design.schedules import designed_schedule, scheduler_for
from reschrom.theory.schedules import Schedule
from reschrom.train.dvdp import staged_pipeline
from reschrom.train.latents import autoencoder, latent_pipeline
from reschrom.train.recipe import Recipe

# IFPipeline pads every prompt to so many tokens.
PROMPT_LENGTH = 77
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

    _check_network(recipe)
    ancestral: Any = DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="fixed_small", clip_sample=True)
    if recipe.schedule != "cosine":
        betas = scheduler_for(_designed(recipe)).config.trained_betas
        ancestral = DDPMScheduler.from_config(ancestral.config, trained_betas=betas)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if recipe.kind == "autoencoder":
            return autoencoder(recipe)
        if recipe.autoencoder:
            return latent_pipeline(recipe, _blocks(recipe, "CrossAttn"))
        if recipe.kind == "t2i":
            # Fresh noise at every step mends what the network got wrong in pure noise; DDIM keeps it, as wrong colours.
            captioned = _captioned(recipe, ancestral)
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


def _check_network(recipe: Recipe) -> None:
    """Refuse what no network can be; a recipe of pictures alone may say anything of its network."""
    blocks = len(recipe.channels)
    if not 1 <= recipe.attentive <= blocks or any(width % 8 for width in recipe.channels):
        raise ValueError(
            f"channels must be multiples of 8, and 1 to {blocks} of their blocks attentive; got "
            f"{recipe.channels} and {recipe.attentive}"
        )
    stages = len(recipe.turning_points) if recipe.kind == "dvdp" else 0
    halvings = blocks - 1 + stages + recipe.halvings
    # The network of t2i brings odd sides back to their size on its way up; the other one does not.
    if recipe.size < 2**halvings or (recipe.kind != "t2i" and recipe.size % 2**halvings):
        raise ValueError(
            f"size of a recipe must be a multiple of {2**halvings}, because {blocks} blocks of channels"
            f"{f' and {stages} turning points' if stages else ''}"
            f"{f' and {recipe.halvings} halvings' if recipe.halvings else ''} halve it "
            f"{halvings} times; got {recipe.size}"
        )
    if recipe.batch == 1 and not stages and recipe.size == 2**halvings and 8 in recipe.channels[-2:]:
        raise ValueError(
            "batch of a recipe must be 2 or more, because 8 channels of one pixel are no groups that could be "
            "normalised; got 1"
        )
    if recipe.kind == "residual" and recipe.size % 2:
        raise ValueError(f"size of a recipe of residual must be even; got {recipe.size}")


def _begin_with(unet: Any, start: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(unet, shipped(start) / "unet" / "diffusion_pytorch_model.safetensors")
    except (SafetensorError, OSError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"start of a recipe must be the folder of a model of the same network: {said}") from error


def _read_as(pipeline: Any, start: str) -> None:
    """Give the text encoder the weights of another one, and each word that both know its embedding."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import T5Tokenizer

    encoder, folder = pipeline.text_encoder, shipped(start)
    try:
        weights = load_file(folder / "text_encoder" / "model.safetensors")
        known = T5Tokenizer.from_pretrained(folder / "tokenizer").get_vocab()
        embeddings = weights.pop("shared.weight")
        with torch.no_grad():
            for word, index in pipeline.tokenizer.get_vocab().items():
                if word in known:
                    encoder.shared.weight[index] = embeddings[known[word]]
        encoder.load_state_dict(weights, strict=False)
    except (SafetensorError, LookupError, OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"start of a recipe must be the folder of a model of the same network: {said}") from error


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

    tokenizer = _tokenizer(recipe)
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
        "layers_per_block": 1,
        "in_channels": 3,
        "down_block_types": ("DownBlock2D",) * plain + (f"{attention}DownBlock2D",) * recipe.attentive,
        "up_block_types": (f"{attention}UpBlock2D",) * recipe.attentive + ("UpBlock2D",) * plain,
        "resnet_time_scale_shift": "scale_shift",
        "norm_num_groups": 8,
    }


def _tokenizer(recipe: Recipe) -> Any:
    """Return a T5 tokenizer whose words are those of the captions; other words are spelled, letter by letter."""
    from transformers import T5Tokenizer

    words = sorted({word for caption in recipe.captions for word in caption.split()})
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-'.,"
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    vocabulary += [(f"▁{word}", -1.0) for word in words if len(word) > 1]
    vocabulary += [("▁a", -1.0), *((letter, -8.0) for letter in letters)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=PROMPT_LENGTH)
    first: dict[tuple[int, ...], str] = {}
    for caption, tokens in zip(recipe.captions, tokenizer(recipe.captions, truncation=True).input_ids, strict=True):
        other = first.setdefault(tuple(tokens), caption)
        if other != caption:
            raise ValueError(
                f"contents of a recipe must differ in their first {PROMPT_LENGTH} tokens; {other!r} and {caption!r} "
                "do not"
            )
    return tokenizer
