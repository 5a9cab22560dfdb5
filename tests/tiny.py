"""Tiny pipelines of real diffusers classes with random weights, built without the network."""

from typing import Any

import diffusers
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from reschrom import Schedule
from reschrom.train import Recipe

# A model to train in seconds; tests change what they need.
TINY = Recipe(
    contents=("coffee", "china"),
    pieces=3,
    size=16,
    channels=(8, 16),
    attentive=1,
    text_width=16,
    text_layers=1,
    steps=100,
    batch=8,
    warmup=10,
)
TEXT = 8
LATENT = 4


def seeded(build: Any) -> Any:
    """Make a builder start from the same random weights each time, and build for inference, quietly."""

    def built(**settings: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipeline = build(**settings)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return built


def conditional_unet(channels: int, out_channels: int, **settings: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=out_channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=TEXT,
        **settings,
    )


def unconditional_unet(channels: int = 3) -> Any:
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    )


def vae(latent: int = LATENT) -> Any:
    return diffusers.AutoencoderKL(
        latent_channels=latent,
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        sample_size=16,
        shift_factor=0.1,
    )


def clip(projection: int | None = None) -> Any:
    config = CLIPTextConfig(
        vocab_size=16,
        hidden_size=TEXT,
        intermediate_size=TEXT,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4,
        projection_dim=projection or TEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def t5() -> Any:
    return T5EncoderModel(T5Config(vocab_size=16, d_model=TEXT, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).eval()


@seeded
def deepfloyd(scheduler: Any = None, out_channels: int = 6) -> Any:
    return diffusers.IFPipeline(
        tokenizer=None,
        text_encoder=t5(),
        unet=conditional_unet(3, out_channels),
        scheduler=scheduler
        or diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


@seeded
def stable_diffusion(scheduler: Any = None) -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip(),
        tokenizer=None,
        unet=conditional_unet(LATENT, LATENT),
        scheduler=scheduler
        or diffusers.PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@seeded
def ddim(scheduler: Any = None) -> Any:
    return diffusers.DDIMPipeline(unet=unconditional_unet(), scheduler=scheduler or diffusers.DDIMScheduler())


@seeded
def ddpm(scheduler: Any = None) -> Any:
    return diffusers.DDPMPipeline(unet=unconditional_unet(), scheduler=scheduler or diffusers.DDPMScheduler())


def embedded(seed: int, count: int = 1, length: int = 4) -> torch.Tensor:
    """Return what a text encoder might say."""
    return torch.randn(count, length, TEXT, generator=torch.Generator().manual_seed(seed))


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(first, first + count)]


@seeded
def stable_diffusion_xl(scheduler: Any = None) -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip(),
        text_encoder_2=clip(projection=TEXT),
        tokenizer=None,
        tokenizer_2=None,
        unet=conditional_unet(
            LATENT,
            LATENT,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=TEXT + 6 * 4,
        ),
        scheduler=scheduler or diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
        add_watermarker=False,
    )


@seeded
def pixart(scheduler: Any = None) -> Any:
    return diffusers.PixArtAlphaPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=4,
            num_attention_heads=2,
            caption_channels=TEXT,
            cross_attention_dim=8,
            in_channels=LATENT,
            out_channels=2 * LATENT,
            use_additional_conditions=False,
        ),
        scheduler=scheduler or diffusers.DPMSolverMultistepScheduler(),
    )


@seeded
def stable_diffusion_3(scheduler: Any = None) -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=LATENT,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=2,
            caption_projection_dim=8,
            joint_attention_dim=TEXT,
            pooled_projection_dim=TEXT,
            out_channels=LATENT,
            pos_embed_max_size=8,
        ),
        scheduler=scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )


@seeded
def flux(scheduler: Any = None) -> Any:
    return diffusers.FluxPipeline(
        scheduler=scheduler or diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=4 * LATENT,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT,
            pooled_projection_dim=TEXT,
            axes_dims_rope=(4, 4, 8),
        ),
    )


class ExactNetwork(diffusers.ModelMixin, diffusers.ConfigMixin):
    """The exact posterior of a distribution in the place of a trained network."""

    @register_to_config
    def __init__(self, posterior: Any, schedule: Any, prediction: str, sample_size: int = 8, in_channels: int = 3):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # says which dtype and device
        self.posterior, self.schedule, self.prediction = posterior, schedule, prediction

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> UNet2DOutput:
        alpha = float(self.schedule.alpha(float(timestep)))
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
        flow = self.prediction == "flow_prediction"
        # A straight path has the state of Eq. (1) divided by the sum of its coefficients.
        x_t = sample.double().numpy() * (signal + noise if flow else 1)
        estimate = self.posterior.denoise(x_t, alpha)
        epsilon = (x_t - signal * estimate) / noise
        output = {
            "epsilon": epsilon,
            "sample": estimate,
            "v_prediction": signal * epsilon - noise * estimate,
            "flow_prediction": epsilon - estimate,
        }[self.prediction]
        return UNet2DOutput(sample=torch.from_numpy(output).float())


def exact(posterior: Any, prediction: str) -> Any:
    """Return a pipeline that samples with an exact posterior."""
    # Of second order, so that few steps come close to the exact distribution at every time.
    scheduler = (
        diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
        if prediction == "flow_prediction"
        else diffusers.DPMSolverMultistepScheduler(beta_schedule="linear", prediction_type=prediction)
    )
    network = ExactNetwork(posterior, Schedule.from_diffusers(scheduler), prediction)
    pipeline = diffusers.DDPMPipeline(network, scheduler)  # unlike DDIMPipeline it keeps the scheduler it is given
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
