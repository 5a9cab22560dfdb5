"""What is no picture, or has no noise of one strength: the instrument must say so."""

from typing import Any

import diffusers
import torch
from tiny import clip
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from zoo.case import Case, built, calls, words
from zoo.odd import BATCH, prompted, talker, tokenizer
from zoo.stable import scaled

DEFAULT = frozenset({"default", "four images"})


def vocoder() -> Any:
    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=8,
            sampling_rate=16000,
            upsample_initial_channel=8,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3, 3],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            normalize_before=False,
        )
    )


def sound_unet() -> Any:
    return diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(8, 16),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=8,
        class_embeddings_concat=True,
    )


def sound_vae() -> Any:
    return diffusers.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        latent_channels=4,
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
    )


def heard(guided: bool, **_: Any) -> dict[str, Any]:
    given = {"prompt_embeds": words(1, 1)[:, 0]}
    return given | ({"negative_prompt_embeds": words(7, 1)[:, 0]} if guided else {})


def sounds(cls: str) -> Case:
    return Case(
        built(
            getattr(diffusers, cls),
            vae=sound_vae,
            text_encoder=clip,
            tokenizer=None,
            unet=sound_unet,
            scheduler=scaled("DDIM"),
            vocoder=vocoder,
            **({"feature_extractor": None} if cls == "MusicLDMPipeline" else {}),
        ),
        calls(
            images="num_waveforms_per_prompt",
            sized=False,
            latent=False,
            text=heard,
            more={"audio_length_in_s": 0.004, "output_type": "np"},
        ),
        supports=DEFAULT,
        refused="it makes sound",
    )


REFUSED: dict[str, Case] = {
    "AudioLDMPipeline": sounds("AudioLDMPipeline"),
    "DanceDiffusionPipeline": Case(
        built(
            diffusers.DanceDiffusionPipeline,
            unet=lambda: diffusers.UNet1DModel(
                block_out_channels=(32, 32),
                extra_in_channels=64,
                sample_size=32,
                sample_rate=32,
                in_channels=2,
                out_channels=2,
                flip_sin_to_cos=True,
                use_timestep_embedding=False,
                time_embedding_type="fourier",
                mid_block_type="UNetMidBlock1D",
                down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D"),
                up_block_types=("AttnUpBlock1D", "UpBlock1DNoSkip"),
            ),
            scheduler=diffusers.IPNDMScheduler,
        ),
        calls(images="batch_size", sized=False, latent=False, scale="", more={"audio_length_in_s": 1}),
        supports=DEFAULT,
        refused="it makes sound",
    ),
    "StableAudioPipeline": Case(
        built(
            diffusers.StableAudioPipeline,
            vae=lambda: diffusers.AutoencoderOobleck(
                encoder_hidden_size=6,
                downsampling_ratios=[1, 2],
                decoder_channels=3,
                decoder_input_channels=3,
                audio_channels=2,
                channel_multiples=[2, 4],
                sampling_rate=4,
            ),
            text_encoder=None,
            projection_model=lambda: diffusers.pipelines.stable_audio.StableAudioProjectionModel(
                text_encoder_dim=8, conditioning_dim=8, min_value=0, max_value=32
            ),
            tokenizer=None,
            transformer=lambda: diffusers.StableAudioDiTModel(
                sample_size=4,
                in_channels=3,
                num_layers=1,
                attention_head_dim=4,
                num_attention_heads=4,
                num_key_value_attention_heads=2,
                out_channels=3,
                cross_attention_dim=8,
                time_proj_dim=8,
                global_states_input_dim=16,
                cross_attention_input_dim=8,
            ),
            scheduler=lambda: diffusers.EDMDPMSolverMultistepScheduler(sigma_data=1.0),
        ),
        calls(
            images="num_waveforms_per_prompt",
            sized=False,
            text=lambda guided, **_: (
                {"prompt_embeds": words(1), "attention_mask": torch.ones(1, 4)}
                | ({"negative_prompt_embeds": words(7), "negative_attention_mask": torch.ones(1, 4)} if guided else {})
            ),
        ),
        supports=DEFAULT,
        refused="it makes sound",
    ),
    "ShapEPipeline": Case(
        built(
            diffusers.ShapEPipeline,
            prior=lambda: diffusers.PriorTransformer(
                num_attention_heads=2,
                attention_head_dim=4,
                embedding_dim=8,
                num_embeddings=4,
                embedding_proj_dim=8,
                time_embed_dim=16,
                num_layers=1,
                clip_embed_dim=16,
                additional_embeddings=0,
                time_embed_act_fn="gelu",
                norm_in_type="layer",
                encoder_hid_proj_type=None,
                added_emb_type=None,
            ),
            text_encoder=lambda: talker(projected=True),
            tokenizer=tokenizer,
            scheduler=lambda: diffusers.HeunDiscreteScheduler(
                beta_schedule="exp", prediction_type="sample", clip_sample=True
            ),
            shap_e_renderer=None,
        ),
        calls(sized=False, text=lambda **_: {"prompt": "a photo"}),
        supports=DEFAULT,
        refused="it makes a solid",
    ),
    "AmusedPipeline": Case(
        built(
            diffusers.AmusedPipeline,
            vqvae=lambda: diffusers.VQModel(
                block_out_channels=[8], norm_num_groups=4, num_vq_embeddings=16, latent_channels=8, layers_per_block=1
            ),
            tokenizer=None,
            text_encoder=lambda: clip(projection=8),
            transformer=lambda: diffusers.UVit2DModel(
                hidden_size=8,
                cond_embed_dim=8,
                encoder_hidden_size=8,
                micro_cond_encode_dim=2,
                micro_cond_embed_dim=10,
                vocab_size=32,
                codebook_size=16,
                in_channels=8,
                block_out_channels=8,
                num_res_blocks=1,
                num_hidden_layers=1,
                num_attention_heads=1,
                intermediate_size=16,
                use_bias=False,
                block_num_heads=1,
                sample_size=8,
            ),
            scheduler=lambda: diffusers.AmusedScheduler(mask_token_id=31),
        ),
        calls(
            text=lambda guided, **_: (
                {"prompt_embeds": words(1, 1)[:, 0], "encoder_hidden_states": words(3)}
                | (
                    {"negative_prompt_embeds": words(7, 1)[:, 0], "negative_encoder_hidden_states": words(8)}
                    if guided
                    else {}
                )
            )
        ),
        supports=DEFAULT,
        refused="it unmasks tokens, and adds no noise",
    ),
    "ScoreSdeVePipeline": Case(
        built(
            diffusers.ScoreSdeVePipeline,
            unet=lambda: diffusers.UNet2DModel(
                sample_size=8,
                in_channels=3,
                out_channels=3,
                block_out_channels=(8, 16),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                norm_num_groups=4,
                attention_head_dim=4,
            ),
            scheduler=diffusers.ScoreSdeVeScheduler,
        ),
        BATCH,
        size=(8, 8),
        supports=DEFAULT,
        refused="its scheduler has no step",
    ),
}
__all__ = ["REFUSED", "prompted"]
