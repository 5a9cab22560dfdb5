"""Latents as Stable Diffusion has them: an autoencoder trained here, and a pipeline that draws in its latents."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reschrom._files import shipped
from reschrom.theory.bands import downsample
from reschrom.train.pictures import batch
from reschrom.train.recipe import WINDOW, Recipe
from reschrom.train.text import clip_tokenizer

if TYPE_CHECKING:
    import torch

_CHANNELS = 4  # of the latents
# Of one latent's divergence from a normal variable, in nats, beside the error of a pixel: enough to keep latents near
# the origin, and so little that they lose no detail.
_DIVERGENCE = 5e-4


def autoencoder(recipe: Recipe) -> Any:
    """Return a new `AutoencoderKL`; each of its blocks but the last halves the sides.

    With a start it is that one, and only its decoder is to be trained: the latents of pictures stay what they are.
    """
    from diffusers import AutoencoderKL

    if recipe.start:
        started = read_autoencoder(recipe, "start")
        started.decoder.requires_grad_(True)
        started.post_quant_conv.requires_grad_(True)
        return started
    blocks = len(recipe.channels)
    return AutoencoderKL(
        sample_size=recipe.size,
        block_out_channels=recipe.channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def read_autoencoder(recipe: Recipe, setting: str = "autoencoder") -> Any:
    """Return the trained autoencoder that a setting of a recipe names.

    Raises ValueError where there is none, or its pictures are of another size.
    """
    from diffusers import AutoencoderKL
    from safetensors import SafetensorError

    named = getattr(recipe, setting)
    folder = shipped(named)
    try:
        if not (folder / "config.json").is_file():  # or else diffusers looks for it on the hub
            raise ValueError(f"{named} has no config.json")
        trained = AutoencoderKL.from_pretrained(folder, local_files_only=True)
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{setting} of a recipe must be the folder of a trained autoencoder: {said}") from error
    if trained.config.sample_size != recipe.size:
        raise ValueError(
            f"{setting} of a recipe must be of pictures of {recipe.size} pixels; got {trained.config.sample_size}"
        )
    return trained.requires_grad_(False)


def latent_shape(vae: Any) -> tuple[int, int, int]:
    """Return the shape of one picture's latents."""
    side = vae.config.sample_size >> (len(vae.config.block_out_channels) - 1)
    return vae.config.latent_channels, side, side


def latent_pipeline(recipe: Recipe, vae: Any, blocks: dict[str, Any], prediction_type: str) -> Any:
    """Return a new `StableDiffusionPipeline` around a trained autoencoder; `blocks` are the settings of its network."""
    from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = clip_tokenizer(recipe)
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
    channels, side, _ = latent_shape(vae)
    unet: Any = UNet2DConditionModel(
        **{**blocks, "sample_size": side, "in_channels": channels},
        out_channels=channels,
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
        prediction_type=prediction_type,
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


class PictureBatch(NamedTuple):
    """What one step of an autoencoder sees: pictures, and the noise that its latents are drawn with."""

    pictures: "torch.Tensor"
    noise: "torch.Tensor"


class PictureBatches:
    """The pictures of every step of an autoencoder, by seed and step as those of `Batches`."""

    def __init__(self, vae: Any, pictures: np.ndarray, recipe: Recipe, processes: int) -> None:
        self.vae, self.pictures, self.recipe, self.processes = vae, pictures, recipe, processes

    def draw(self, step: int, process: int, device: "torch.device") -> PictureBatch:
        generator = np.random.default_rng([self.recipe.seed, step, process])
        pictures, _ = batch(self.pictures, self.recipe.batch // self.processes, generator)
        return _picture_batch(self.vae, downsample(pictures, self.recipe.level), generator, device)


def _picture_batch(
    vae: Any, pictures: np.ndarray, generator: np.random.Generator, device: "torch.device"
) -> PictureBatch:
    import torch

    noise = generator.standard_normal((len(pictures), *latent_shape(vae)), np.float32)
    return PictureBatch(
        torch.from_numpy(pictures).to(device, memory_format=torch.channels_last), torch.from_numpy(noise).to(device)
    )


def encoded(vae: Any, pictures: np.ndarray, generator: np.random.Generator, device: "torch.device") -> np.ndarray:
    """Return latents of pictures, drawn from what the autoencoder says of each, on the scale that the denoiser sees."""
    return _encode(vae.to(device), _picture_batch(vae, pictures, generator, device)).cpu().numpy()


def set_scale(vae: Any, drawn: PictureBatch) -> None:
    """Set the factor that gives the latents of these pictures the variance 1."""
    vae.register_to_config(scaling_factor=1.0)
    vae.register_to_config(scaling_factor=float(1 / _encode(vae, drawn).std()))


def _encode(vae: Any, drawn: PictureBatch) -> "torch.Tensor":
    import torch

    with torch.no_grad():
        posterior = vae.encode(drawn.pictures).latent_dist
        return (posterior.mean + posterior.std * drawn.noise) * vae.config.scaling_factor


def autoencoding(vae: Any) -> "torch.nn.Module":
    """Return a module that maps pictures and noise to the pictures that come back and the divergence of the latents.

    Its parameters are those of the decoder alone where the encoder is not trained.
    """
    import torch

    whole = vae.encoder.conv_in.weight.requires_grad
    trained = vae if whole else torch.nn.ModuleList([vae.decoder, vae.post_quant_conv])

    class Autoencoding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trained = trained

        def forward(self, pictures: Any, noise: Any) -> tuple[Any, Any]:
            posterior = vae.encode(pictures).latent_dist
            divergence = (posterior.mean.square() + posterior.var - 1 - posterior.logvar) / 2
            return vae.decode(posterior.mean + posterior.std * noise).sample, divergence

    return Autoencoding()


def autoencoding_loss(
    returned: "torch.Tensor", divergence: "torch.Tensor", pictures: "torch.Tensor", texture: float
) -> "torch.Tensor":
    """Return the error of what comes back, what it lacks in sharpness, and the divergence of the latents.

    texture: weight of the difference of `local_spectra`; with 0 the error of the finest band counts twice instead.
    """
    from torch.nn.functional import avg_pool2d, interpolate

    error = returned.float() - pictures
    if texture:
        blurred = texture * (local_spectra(returned.float()) - local_spectra(pictures)).abs().mean()
    else:
        blurred = (error - interpolate(avg_pool2d(error, 2), scale_factor=2.0)).abs().mean()
    return error.abs().mean() + blurred + _DIVERGENCE * divergence.float().mean()


def local_spectra(pictures: "torch.Tensor") -> "torch.Tensor":
    """Return the magnitudes of the Fourier transform in overlapping windows, so scaled that white noise keeps its size.

    They tell how strong strokes of each direction and width are, and not where each lies. Latents rarely hold the place
    of a fine stroke. So the best decoder by the error of pixels paints the mean over all places, which is no stroke at
    all, while by these magnitudes it paints strokes of the right kind somewhere.
    """
    import torch

    window = torch.hann_window(WINDOW, periodic=False, device=pictures.device)
    window = window[:, None] * window
    cut = pictures.unfold(2, WINDOW, WINDOW // 2).unfold(3, WINDOW, WINDOW // 2)
    return torch.fft.rfft2(cut * (window / window.square().sum().sqrt())).abs()
