"""Newer classes, each with a habit of its own: channels last, guiders, other clocks."""

from typing import Any

import diffusers
import torch
from diffusers.guiders import AdaptiveProjectedMixGuidance, ClassifierFreeGuidance

from zoo.case import Case, calls, embeds, without, words
from zoo.flows import FLOW, TWO_CALLS, T, adjusted, of, patches, qwen_vae, spoken
from zoo.videos import BIGGER, UNIPC_FLOW, VIDEOS_OF


class Guard:
    """What Cosmos asks before it runs, and after."""

    def to(self, _: Any) -> None:
        """Stay where it is."""

    def check_text_safety(self, _: str) -> bool:
        return True


def kandinsky5() -> Any:
    return diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=8,
        in_text_dim2=8,
        time_dim=16,
        out_visual_dim=4,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=16,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(1, 1, 2),
        visual_cond=False,
        attention_type="regular",
    )


LENGTHS = torch.tensor([0, 4], dtype=torch.int32)
TWO_TEXTS = spoken(
    ("prompt_embeds_qwen", words(1), words(7)),
    ("prompt_embeds_clip", words(3, 1)[:, 0], words(8, 1)[:, 0]),
    ("prompt_cu_seqlens", LENGTHS, LENGTHS),
)


def hunyuan_image(guider: Any) -> Any:
    return of(
        "HunyuanImagePipeline",
        lambda: diffusers.HunyuanImageTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            patch_size=(1, 1),
            guidance_embeds=False,
            text_embed_dim=8,
            text_embed_2_dim=8,
            rope_axes_dim=(4, 4),
        ),
        lambda: FLOW(shift=7.0),
        vae=None,
        text_encoder_2=None,
        tokenizer_2=None,
        guider=guider,
        ocr_guider=guider,
    )


ONES = torch.ones(1, 4, dtype=torch.long)
HUNYUAN_IMAGE = calls(
    scale="",
    text=spoken(
        ("prompt_embeds", words(1), words(7)),
        ("prompt_embeds_mask", ONES, ONES),
        ("prompt_embeds_2", words(3), words(8)),
        ("prompt_embeds_mask_2", ONES, ONES),
    ),
)

MORE: dict[str, Case] = {
    "HunyuanImagePipeline": Case(
        hunyuan_image(lambda: AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=0)),
        HUNYUAN_IMAGE,
        altered="guidance is projected",
        supports=without("guidance off"),
        size=(256, 256),
        other=(384, 640),
        **TWO_CALLS,
        **T,
    ),
    "HunyuanImagePipeline, plain guider": Case(
        hunyuan_image(lambda: ClassifierFreeGuidance(guidance_scale=4.0)),
        HUNYUAN_IMAGE,
        supports=without("guidance off"),
        size=(256, 256),
        other=(384, 640),
        **TWO_CALLS,
        **T,
    ),
    "Krea2Pipeline": Case(
        of(
            "Krea2Pipeline",
            lambda: diffusers.Krea2Transformer2DModel(
                in_channels=16,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=16,
                timestep_embed_dim=8,
                text_hidden_dim=8,
                num_text_layers=3,
                text_num_attention_heads=2,
                text_num_key_value_heads=1,
                text_intermediate_size=8,
                num_layerwise_text_blocks=1,
                num_refiner_text_blocks=1,
                axes_dims_rope=(4, 2, 2),
            ),
            vae=qwen_vae,
            text_encoder_select_layers=(0, 1, 2),
        ),
        calls(
            off=0.0,
            text=spoken(
                ("prompt_embeds", torch.stack([words(1)] * 3, dim=2), torch.stack([words(7)] * 3, dim=2)),
                ("prompt_embeds_mask", ONES.bool(), ONES.bool()),
            ),
        ),
        unpack=patches,
        **TWO_CALLS,
        **T,
    ),
    "Cosmos2TextToImagePipeline": Case(
        of(
            "Cosmos2TextToImagePipeline",
            lambda: diffusers.CosmosTransformer3DModel(
                in_channels=4,
                out_channels=4,
                num_attention_heads=2,
                attention_head_dim=16,
                num_layers=1,
                mlp_ratio=2,
                text_embed_dim=8,
                adaln_lora_dim=4,
                max_size=(4, 32, 32),
                patch_size=(1, 2, 2),
                rope_scale=(2.0, 1.0, 1.0),
                concat_padding_mask=False,
                extra_pos_embed_type="learnable",
            ),
            lambda: FLOW(use_karras_sigmas=True),
            vae=None,
            safety_checker=Guard,
        ),
        calls(text=embeds()),
        prediction="flow",
        altered="a flow is turned into the noise of x_0 + sigma noise",
        **BIGGER,
        **TWO_CALLS,
        **T,
    ),
    "SkyReelsV2Pipeline": Case(
        of(
            "SkyReelsV2Pipeline",
            lambda: diffusers.SkyReelsV2Transformer3DModel(
                patch_size=(1, 2, 2),
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=4,
                out_channels=4,
                text_dim=8,
                freq_dim=16,
                ffn_dim=16,
                num_layers=1,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
                rope_max_seq_len=32,
            ),
            lambda: diffusers.UniPCMultistepScheduler(**UNIPC_FLOW),
            vae=None,
        ),
        calls(images=VIDEOS_OF, text=embeds(), more={"num_frames": 9}),
        **BIGGER,
        **TWO_CALLS,
        **T,
    ),
    "Kandinsky5T2IPipeline": Case(
        adjusted(
            of("Kandinsky5T2IPipeline", kandinsky5, lambda: FLOW(shift=7.0), text_encoder_2=None, tokenizer_2=None),
            resolutions=[(64, 64), (160, 96)],
        ),
        calls(text=TWO_TEXTS),
        channels_last=True,
        **BIGGER,
        **TWO_CALLS,
        **T,
    ),
}
