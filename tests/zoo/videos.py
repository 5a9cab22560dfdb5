"""Videos: frames are a second axis, before or behind the channels, folded into the batch, or packed in tokens."""

from typing import Any

import diffusers
import torch
from tiny import conditional_unet, vae

from zoo.case import Case, built, calls, embeds, picture, words
from zoo.flows import FLOW, POOLED, TRUE, TWO_CALLS, T, of, pil, wan_vae
from zoo.odd import extractor, watcher
from zoo.stable import ADDED, BIG, TOKENS, scaled, unet

VIDEOS_OF = "num_videos_per_prompt"
BIGGER: dict[str, Any] = {"size": (64, 64), "other": (96, 160)}  # coders are taken to shrink eight times
UNIPC_FLOW = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}


def wan_transformer(channels: int = 4, **settings: Any) -> Any:
    return lambda: diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=4,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **settings,
    )


def in_order(tokens: torch.Tensor, height: int, width: int, side: int = 32) -> torch.Tensor:
    """From (N, F h w, C) to (N, F, C, h, w), for a coder that shrinks by `side`."""
    h, w = height // side, width // side
    return tokens.reshape(len(tokens), -1, h, w, tokens.shape[-1]).movedim(-1, 2)


def ltx(name: str, **parts: Any) -> Any:
    return of(
        name,
        lambda: diffusers.LTXVideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=8,
        ),
        **({"vae": None} | parts),
    )


def ltx_vae() -> Any:
    return diffusers.AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=1,
        patch_size_t=1,
    )


def cogvideo(channels: int = 4, **settings: Any) -> Any:
    return lambda: diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=channels,
        out_channels=4,
        time_embed_dim=4,
        text_embed_dim=8,
        num_layers=1,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=4,
        **settings,
    )


def motion(**settings: Any) -> Any:
    return lambda: diffusers.MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_norm_num_groups=4,
        motion_num_attention_heads=2,
        **settings,
    )


MASKED = embeds("prompt_attention_mask", dtype=torch.bool)
FLAT = embeds("prompt_attention_mask")

VIDEOS: dict[str, Case] = {
    "WanPipeline": Case(
        of("WanPipeline", wan_transformer(), lambda: FLOW(shift=3.0), vae=None, transformer_2=None),
        calls(images=VIDEOS_OF, text=embeds(), more={"num_frames": 9}),
        **BIGGER,
        **TWO_CALLS,
        **T,
    ),
    "WanPipeline, UniPC": Case(
        of(
            "WanPipeline",
            wan_transformer(),
            lambda: diffusers.UniPCMultistepScheduler(**UNIPC_FLOW),
            vae=None,
            transformer_2=None,
        ),
        calls(images=VIDEOS_OF, text=embeds(), more={"num_frames": 9}),
        **BIGGER,
        **TWO_CALLS,
        **T,
    ),
    "WanPipeline, two transformers": Case(
        of(
            "WanPipeline",
            wan_transformer(),
            lambda: diffusers.UniPCMultistepScheduler(**UNIPC_FLOW),
            vae=None,
            transformer_2=wan_transformer(),
            boundary_ratio=0.875,
        ),
        calls(images=VIDEOS_OF, text=embeds(), more={"num_frames": 9, "guidance_scale_2": None}),
        networks=("transformer", "transformer_2"),
        **BIGGER,
        **TWO_CALLS,
    ),
    "WanImageToVideoPipeline": Case(
        of(
            "WanImageToVideoPipeline",
            wan_transformer(4 + 8, image_dim=8),
            lambda: FLOW(shift=3.0),
            vae=wan_vae,
            transformer_2=None,
            image_encoder=watcher,
            image_processor=extractor,
        ),
        calls(images=VIDEOS_OF, text=embeds(), more=lambda size, **_: {"num_frames": 5, "image": pil(size)}),
        **BIGGER,
        **TWO_CALLS,
        **T,
    ),
    "LTXPipeline": Case(
        ltx("LTXPipeline"),
        calls(images="repeat", text=FLAT, more={"num_frames": 9}),
        size=(256, 256),
        other=(384, 640),
        unpack=in_order,
        **T,
    ),
    "LTXImageToVideoPipeline": Case(
        ltx("LTXImageToVideoPipeline", vae=ltx_vae),
        calls(images="repeat", text=FLAT, more=lambda size, **_: {"num_frames": 9, "image": picture(size)}),
        size=(32, 32),
        other=(32, 64),
        unpack=lambda tokens, height, width: in_order(tokens, height, width, 4),
        **T,
    ),
    "HunyuanVideoPipeline": Case(
        of(
            "HunyuanVideoPipeline",
            lambda: diffusers.HunyuanVideoTransformer3DModel(
                in_channels=4,
                out_channels=4,
                num_attention_heads=2,
                attention_head_dim=10,
                num_layers=1,
                num_single_layers=1,
                num_refiner_layers=1,
                patch_size=1,
                patch_size_t=1,
                guidance_embeds=True,
                text_embed_dim=8,
                pooled_projection_dim=8,
                rope_axes_dim=(2, 4, 4),
            ),
            lambda: FLOW(shift=7.0),
            vae=None,
            text_encoder_2=None,
            tokenizer_2=None,
        ),
        calls(
            images=VIDEOS_OF,
            text=embeds("prompt_attention_mask", pooled=True),
            **TRUE,
            more={"num_frames": 9},
        ),
        **BIGGER,
        **TWO_CALLS,
        **T,
    ),
    "CogVideoXPipeline": Case(
        of(
            "CogVideoXPipeline",
            cogvideo(),
            scaled("CogVideoXDDIM", prediction_type="v_prediction", clip_sample=False),
            vae=None,
        ),
        calls(images="repeat", text=embeds(always=True), more={"num_frames": 9}),
        frames_first=True,
        **BIGGER,
        **T,
    ),
    "CogVideoXPipeline, DPM": Case(
        of("CogVideoXPipeline", cogvideo(), scaled("CogVideoXDPM", prediction_type="v_prediction"), vae=None),
        calls(images="repeat", text=embeds(always=True), more={"num_frames": 9}),
        frames_first=True,
        **BIGGER,
        **T,
    ),
    "MochiPipeline": Case(
        of(
            "MochiPipeline",
            lambda: diffusers.MochiTransformer3DModel(
                patch_size=2,
                num_attention_heads=2,
                attention_head_dim=8,
                num_layers=2,
                pooled_projection_dim=8,
                in_channels=4,
                qk_norm="rms_norm",
                text_embed_dim=8,
                time_embed_dim=4,
                max_sequence_length=4,
            ),
            lambda: FLOW(invert_sigmas=True),
            vae=None,
        ),
        calls(images="repeat", text=MASKED, more={"num_frames": 7}),
        sign=-1,  # and time runs from 0 to 1
        **BIGGER,
        **T,
    ),
    "AllegroPipeline": Case(
        of(
            "AllegroPipeline",
            lambda: diffusers.AllegroTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                cross_attention_dim=24,
                sample_width=8,
                sample_height=8,
                sample_frames=4,
                caption_channels=8,
            ),
            scaled("DDIM"),
            vae=None,
        ),
        calls(images="repeat", text=FLAT, more={"num_frames": 8, "negative_prompt": None, "clean_caption": False}),
        **BIGGER,
        **T,
    ),
    "LattePipeline": Case(
        of(
            "LattePipeline",
            lambda: diffusers.LatteTransformer3DModel(
                sample_size=8,
                num_layers=1,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=2,
                caption_channels=8,
                in_channels=4,
                cross_attention_dim=16,
                out_channels=8,
                num_embeds_ada_norm=1000,
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
                video_length=4,
            ),
            scaled("DDIM"),
        ),
        calls(
            images="repeat",
            text=embeds(),
            more={"video_length": 4, "mask_feature": False, "clean_caption": False, "negative_prompt": None},
        ),
        **T,
    ),
    "AnimateDiffPipeline": Case(
        built(
            diffusers.AnimateDiffPipeline,
            vae=vae,
            **TOKENS,
            unet=unet(),
            motion_adapter=motion(),
            scheduler=scaled("DDIM", beta_schedule="linear"),
        ),
        calls(images="repeat", text=embeds(), more={"num_frames": 4}),
    ),
    "AnimateDiffSDXLPipeline": Case(
        built(
            diffusers.AnimateDiffSDXLPipeline,
            vae=vae,
            **BIG,
            unet=unet(**ADDED),
            motion_adapter=motion(use_motion_mid_block=False),
            scheduler=scaled("DDIM", beta_schedule="linear"),
        ),
        calls(images="repeat", text=POOLED, more={"num_frames": 4}),
    ),
    "StableVideoDiffusionPipeline": Case(
        built(
            diffusers.StableVideoDiffusionPipeline,
            vae=lambda: diffusers.AutoencoderKLTemporalDecoder(
                block_out_channels=(32, 32),
                down_block_types=("DownEncoderBlock2D",) * 2,
                latent_channels=4,
                layers_per_block=1,
            ),
            image_encoder=watcher,
            unet=lambda: diffusers.UNetSpatioTemporalConditionModel(
                block_out_channels=(32, 32),
                layers_per_block=1,
                sample_size=8,
                in_channels=8,
                out_channels=4,
                down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
                up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
                cross_attention_dim=8,
                num_attention_heads=2,
                projection_class_embeddings_input_dim=3 * 8,
                addition_time_embed_dim=8,
            ),
            scheduler=scaled(
                "EulerDiscrete",
                prediction_type="v_prediction",
                sigma_min=0.002,
                sigma_max=700.0,
                timestep_type="continuous",
                use_karras_sigmas=True,
            ),
            feature_extractor=extractor,
        ),
        calls(
            images=VIDEOS_OF,
            scale="max_guidance_scale",
            more=lambda **_: {"image": picture((16, 16)), "num_frames": 4, "min_guidance_scale": 1.0},
        ),
        frames_first=True,
        altered="every frame has a scale of its own",
    ),
    "TextToVideoSDPipeline": Case(
        built(
            diffusers.TextToVideoSDPipeline,
            vae=vae,
            **TOKENS,
            unet=lambda: diffusers.UNet3DConditionModel(
                block_out_channels=(8, 16),
                layers_per_block=1,
                sample_size=8,
                down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
                up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
                cross_attention_dim=8,
                attention_head_dim=4,
                norm_num_groups=4,
            ),
            scheduler=scaled("DDIM"),
        ),
        calls(images="repeat", text=embeds(), more={"num_frames": 4}),
        folded=True,
    ),
}
# What counts the pictures of a video, and how many of them are one frame of its latents; the first is one picture.
LENGTHS: dict[str, tuple[str, int]] = {
    "LTXPipeline": ("num_frames", 8),
    "MochiPipeline": ("num_frames", 6),
    "AllegroPipeline": ("num_frames", 4),
    "LattePipeline": ("video_length", 1),
    "AnimateDiffPipeline": ("num_frames", 1),
    "AnimateDiffSDXLPipeline": ("num_frames", 1),
    "StableVideoDiffusionPipeline": ("num_frames", 1),
    "TextToVideoSDPipeline": ("num_frames", 1),
}


# Numbers of frames that a class itself refuses, takes for a picture, or guides in a way that tells no branches.
REFUSED_FRAMES: dict[str, tuple[int, ...]] = {
    "LattePipeline": (2, 5, 8),
    "StableVideoDiffusionPipeline": (1, 2),
    "TextToVideoSDPipeline": (1,),
    "LTXImageToVideoPipeline": (1, 2, 5, 8),
}


def of_frames(name: str, frames: int) -> dict[str, int]:
    """Return the argument that asks a case for so many frames of its latents."""
    argument, pictures = LENGTHS.get(name, ("num_frames", 4))
    return {argument: 1 + pictures * (frames - 1)}


__all__ = ["REFUSED_FRAMES", "VIDEOS", "conditional_unet", "of_frames", "words"]
