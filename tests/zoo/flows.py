"""Transformers on images: flows in two calls or one batch, packed tokens, and those that came before."""

import math
from typing import Any

import diffusers
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from tiny import pixart, stable_diffusion_3, t5, vae

from zoo.case import Case, Size, built, calls, embeds, picture, without, words
from zoo.odd import prompted, talker, tokenizer
from zoo.stable import PERTURBED, both, changed, pag, scaled, shown

FLOW = diffusers.FlowMatchEulerDiscreteScheduler
TWO_CALLS = {"branches": ("conditional", "unconditional"), "together": False}
T = {"networks": ("transformer",)}
POOLED = embeds(pooled=True)


def patches(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """From (N, h w, 4 C), whose channels are C, 2, 2, to (N, C, 2 h, 2 w)."""
    grid = squares(tokens, height, width)
    count, channels, h, w = grid.shape
    return grid.reshape(count, channels // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(count, -1, 2 * h, 2 * w)


def squares(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """From (N, h w, C) to (N, C, h, w)."""
    side = round(math.sqrt(height * width / tokens.shape[1]))
    return tokens.reshape(len(tokens), height // side, width // side, -1).permute(0, 3, 1, 2)


def plain_vae(latent: int = 4) -> Any:
    return lambda: vae(latent)


def vae8() -> Any:
    """A coder that shrinks eight times, for classes that take that for granted."""
    return diffusers.AutoencoderKL(
        latent_channels=4,
        block_out_channels=(4,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
    )


def adjusted(build: Any, **attributes: Any) -> Any:
    """Build a pipeline and set attributes that its constructor does not take."""

    def made() -> Any:
        pipeline = build()
        vars(pipeline).update(attributes)
        return pipeline

    return made


def wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def none(*names: str) -> dict[str, None]:
    return dict.fromkeys(names)


def of(name: str, transformer: Any, scheduler: Any = FLOW, vae: Any = vae, **parts: Any) -> Any:
    usual = {"transformer": transformer, "scheduler": scheduler, "vae": vae, "text_encoder": None, "tokenizer": None}
    return built(getattr(diffusers, name), **{key: value for key, value in (usual | parts).items() if value is not ...})


def sd3(name: str, channels: int = 4, scheduler: Any = lambda: FLOW(shift=3.0), **parts: Any) -> Any:
    return of(
        name,
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=channels,
            num_layers=2,
            attention_head_dim=4,
            num_attention_heads=2,
            caption_projection_dim=8,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            out_channels=channels,
            pos_embed_max_size=20,
        ),
        scheduler,
        **none("text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3"),
        **parts,
    )


SKIPPED = {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
SD3 = {
    "StableDiffusion3Pipeline": Case(sd3("StableDiffusion3Pipeline"), calls(images="repeat", text=POOLED), **T),
    "StableDiffusion3Pipeline, skipped layers": Case(
        sd3("StableDiffusion3Pipeline"),
        calls(images="repeat", text=POOLED, more=SKIPPED),
        branches=("unconditional", "conditional", "perturbed"),
        at_times=("unconditional", "conditional"),
        **T,
    ),
    "StableDiffusion3Pipeline, Heun": Case(
        sd3("StableDiffusion3Pipeline", scheduler=lambda: diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)),
        calls(images="repeat", text=POOLED),
        **T,
    ),
    "StableDiffusion3Pipeline, UniPC flow": Case(
        sd3(
            "StableDiffusion3Pipeline",
            scheduler=lambda: diffusers.UniPCMultistepScheduler(
                use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
            ),
        ),
        calls(images="repeat", text=POOLED),
        **T,
    ),
    "StableDiffusion3Img2ImgPipeline": Case(
        sd3("StableDiffusion3Img2ImgPipeline"), calls(images="repeat", text=POOLED, more=changed()), **T
    ),
    "StableDiffusion3InpaintPipeline": Case(
        sd3("StableDiffusion3InpaintPipeline", 16, vae=plain_vae(16)),
        calls(images="repeat", text=POOLED, more=changed(masked=True)),
        **T,
    ),
    "StableDiffusion3PAGPipeline": Case(
        sd3("StableDiffusion3PAGPipeline", pag_applied_layers="blocks.1"),
        calls(images="repeat", text=POOLED, more=PERTURBED),
        **pag(),
        **T,
    ),
    "StableDiffusion3PAGImg2ImgPipeline": Case(
        sd3("StableDiffusion3PAGImg2ImgPipeline", pag_applied_layers="blocks.1"),
        calls(images="repeat", text=POOLED, more=changed(**PERTURBED)),
        **pag(),
        **T,
    ),
    "StableDiffusion3ControlNetPipeline": Case(
        sd3(
            "StableDiffusion3ControlNetPipeline",
            controlnet=lambda: diffusers.SD3ControlNetModel(
                sample_size=8,
                patch_size=1,
                in_channels=4,
                num_layers=1,
                attention_head_dim=4,
                num_attention_heads=2,
                caption_projection_dim=8,
                joint_attention_dim=8,
                pooled_projection_dim=8,
                out_channels=4,
                pos_embed_max_size=20,
            ),
        ),
        calls(images="repeat", text=POOLED, more=shown("control_image")),
        **T,
    ),
}


def flux(name: str, channels: int = 16, embedded: bool = False, **parts: Any) -> Any:
    return of(
        name,
        lambda: diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=channels,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=embedded,
        ),
        **none("text_encoder_2", "tokenizer_2"),
        **parts,
    )


TRUE = {"scale": "true_cfg_scale", "on": 3.0, "off": 1.0}
ALONE = {"branches": ("conditional",), "supports": without("guidance off")}
ONE_TEXT = embeds(pooled=True, negative=False)
FLUX_SHAPE = {"unpack": patches, **T}
FLUX = {
    "FluxPipeline": Case(
        flux("FluxPipeline", embedded=True), calls(text=ONE_TEXT, scale="guidance_scale"), **ALONE, **FLUX_SHAPE
    ),
    "FluxPipeline, true CFG": Case(flux("FluxPipeline"), calls(text=POOLED, **TRUE), **TWO_CALLS, **FLUX_SHAPE),
    "FluxPipeline, dynamic shift": Case(
        flux("FluxPipeline", scheduler=lambda: FLOW(use_dynamic_shifting=True)),
        calls(text=POOLED, **TRUE),
        **TWO_CALLS,
        **FLUX_SHAPE,
    ),
    "FluxPipeline, LCM": Case(
        flux("FluxPipeline", scheduler=diffusers.FlowMatchLCMScheduler),
        calls(text=POOLED, **TRUE),
        **TWO_CALLS,
        **FLUX_SHAPE,
    ),
    "FluxImg2ImgPipeline": Case(
        flux("FluxImg2ImgPipeline"), calls(text=POOLED, **TRUE, more=changed()), **TWO_CALLS, **FLUX_SHAPE
    ),
    "FluxInpaintPipeline": Case(
        flux("FluxInpaintPipeline"), calls(text=POOLED, **TRUE, more=changed(masked=True)), **TWO_CALLS, **FLUX_SHAPE
    ),
    "FluxFillPipeline": Case(
        flux("FluxFillPipeline", 48, embedded=True),
        calls(text=ONE_TEXT, more=both(changed(masked=True), lambda **_: {"strength": 0.5})),
        **ALONE,
        **FLUX_SHAPE,
    ),
    "FluxControlPipeline": Case(
        flux("FluxControlPipeline", 32, embedded=True),
        calls(text=ONE_TEXT, more=shown("control_image")),
        **ALONE,
        **FLUX_SHAPE,
    ),
    "FluxControlNetPipeline": Case(
        flux(
            "FluxControlNetPipeline",
            controlnet=lambda: diffusers.FluxControlNetModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=8,
                pooled_projection_dim=8,
                axes_dims_rope=(4, 4, 8),
            ),
        ),
        calls(text=POOLED, **TRUE, more=shown("control_image")),
        **TWO_CALLS,
        **FLUX_SHAPE,
    ),
    "FluxKontextPipeline": Case(
        flux("FluxKontextPipeline"),
        calls(
            text=POOLED,
            **TRUE,
            more=lambda size, **_: {
                "image": picture(size),
                "max_area": size[0] * size[1],
                "_auto_resize": False,
            },
        ),
        **TWO_CALLS,
        **FLUX_SHAPE,
    ),
}


def flux2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
    )


def flux2(name: str, **parts: Any) -> Any:
    return of(
        name,
        lambda: diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            axes_dims_rope=[4, 4, 4, 4],
        ),
        vae=flux2_vae,
        **parts,
    )


def qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def qwen(name: str, **parts: Any) -> Any:
    return of(
        name,
        lambda: diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            axes_dims_rope=(8, 4, 4),
        ),
        vae=qwen_vae,
        **parts,
    )


def small_pictures(build: Any) -> Any:
    """Let pictures to edit be small; the classes enlarge them to a million pixels."""

    def made() -> Any:
        pipeline_qwenimage_edit.calculate_dimensions = lambda area, ratio: (32, 32, None)
        pipeline_qwenimage_edit_plus.calculate_dimensions = lambda area, ratio: (32, 32)
        return build()

    return made


QWEN_TEXT = embeds("prompt_embeds_mask")
CHROMA_TEXT = embeds("prompt_attention_mask", dtype=torch.float32)


def chroma(name: str) -> Any:
    return of(
        name,
        lambda: diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=16,
            approximator_layers=1,
            approximator_num_channels=16,
        ),
    )


PACKED = {
    "Flux2Pipeline": Case(
        flux2("Flux2Pipeline"), calls(text=embeds(negative=False), scale="guidance_scale"), **ALONE, **FLUX_SHAPE
    ),
    "Flux2Pipeline, reference": Case(
        flux2("Flux2Pipeline"),
        calls(text=embeds(negative=False), more=lambda **_: {"image": pil((64, 64))}),
        **ALONE,
        **FLUX_SHAPE,
    ),
    "Flux2KleinPipeline": Case(
        flux2("Flux2KleinPipeline", is_distilled=False), calls(text=embeds()), **TWO_CALLS, **FLUX_SHAPE
    ),
    "ChromaPipeline": Case(
        chroma("ChromaPipeline"), calls(images="repeat", text=CHROMA_TEXT), **TWO_CALLS, **FLUX_SHAPE
    ),
    "ChromaImg2ImgPipeline": Case(
        chroma("ChromaImg2ImgPipeline"),
        calls(images="repeat", text=CHROMA_TEXT, more=changed()),
        **TWO_CALLS,
        **FLUX_SHAPE,
    ),
    "QwenImagePipeline": Case(
        qwen("QwenImagePipeline"),
        calls(text=QWEN_TEXT, **TRUE),
        **TWO_CALLS,
        **FLUX_SHAPE,
        altered="its norm is that of the conditional output",
    ),
    "QwenImageImg2ImgPipeline": Case(
        qwen("QwenImageImg2ImgPipeline"),
        calls(text=QWEN_TEXT, **TRUE, more=changed()),
        **TWO_CALLS,
        **FLUX_SHAPE,
        altered="its norm is that of the conditional output",
    ),
    "QwenImageInpaintPipeline": Case(
        qwen("QwenImageInpaintPipeline"),
        calls(text=QWEN_TEXT, **TRUE, more=changed(masked=True)),
        **TWO_CALLS,
        **FLUX_SHAPE,
        altered="its norm is that of the conditional output",
    ),
    "QwenImageEditPipeline": Case(
        small_pictures(qwen("QwenImageEditPipeline", processor=None)),
        calls(text=QWEN_TEXT, **TRUE, more=lambda **_: {"image": pil((32, 32))}),
        **TWO_CALLS,
        **FLUX_SHAPE,
        altered="its norm is that of the conditional output",
    ),
    "QwenImageEditPlusPipeline": Case(
        small_pictures(qwen("QwenImageEditPlusPipeline", processor=None)),
        calls(text=QWEN_TEXT, **TRUE, more=lambda **_: {"image": [pil((32, 32)), pil((32, 32))]}),
        **TWO_CALLS,
        **FLUX_SHAPE,
        altered="its norm is that of the conditional output",
    ),
    "BriaPipeline": Case(
        of(
            "BriaPipeline",
            lambda: diffusers.BriaTransformer2DModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=8,
                pooled_projection_dim=None,
                axes_dims_rope=[0, 4, 4],
            ),
            text_encoder=t5,
        ),
        calls(images="repeat", text=embeds()),
        unpack=patches,
        **T,
    ),
    "OvisImagePipeline": Case(
        of(
            "OvisImagePipeline",
            lambda: diffusers.OvisImageTransformer2DModel(
                patch_size=1,
                in_channels=16,
                out_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=8,
                axes_dims_rope=(4, 4, 8),
            ),
        ),
        calls(text=embeds(), more={"negative_prompt": None}),
        **TWO_CALLS,
        **FLUX_SHAPE,
    ),
    "LongCatImagePipeline": Case(
        adjusted(
            of(
                "LongCatImagePipeline",
                lambda: diffusers.LongCatImageTransformer2DModel(
                    patch_size=1,
                    in_channels=64,
                    num_layers=1,
                    num_single_layers=1,
                    attention_head_dim=16,
                    num_attention_heads=2,
                    joint_attention_dim=8,
                    pooled_projection_dim=8,
                    axes_dims_rope=(4, 4, 8),
                ),
                text_processor=None,
                vae=plain_vae(16),
            ),
            _encode_prompt=lambda texts: torch.cat([words(len(each)) for each in texts]),
        ),
        calls(text=prompted(), more={"enable_prompt_rewrite": False}),
        **TWO_CALLS,
        **FLUX_SHAPE,
        altered="its norm is that of the conditional output",
    ),
}


def pil(size: Size) -> Any:
    from PIL import Image

    return Image.new("RGB", size[::-1], (200, 30, 60))


def spoken(*texts: tuple[str, Any, Any]) -> Any:
    """Texts given as lists of tensors or under names of their own: (name, positive, negative)."""
    return lambda guided, **_: (
        {name: yes for name, yes, _ in texts} | ({f"negative_{name}": no for name, _, no in texts} if guided else {})
    )


def zimage() -> Any:
    made = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=8,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    for parameter in (made.x_pad_token, made.cap_pad_token):  # they are left as the memory was
        torch.nn.init.ones_(parameter)
    return made


Z_IMAGE = {
    "output": lambda output: torch.stack(list(output[0] if isinstance(output, tuple) else output.sample)).squeeze(2),
    "branches": ("conditional", "unconditional"),
    "sign": -1,
    **T,
}


def z_text(*, guided: bool, images: int, **_: Any) -> dict[str, Any]:
    return {"prompt_embeds": [words(1)[0]]} | ({"negative_prompt_embeds": [words(7)[0]]} if guided else {})


PIXART_TEXT = embeds("prompt_attention_mask")
BINS = {"use_resolution_binning": False}


def pixart_transformer(additional: bool = False) -> Any:
    return lambda: diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        caption_channels=8,
        cross_attention_dim=8,
        in_channels=4,
        out_channels=8,
        use_additional_conditions=additional,
    )


def sana_transformer(**settings: Any) -> Any:
    return lambda: diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=8,
        **settings,
    )


SANA_SIZE = {"size": (256, 256), "other": (384, 640)}  # without a vae it is taken to shrink 32 times


def hunyuan(name: str, **parts: Any) -> Any:
    return of(
        name,
        lambda: diffusers.HunyuanDiT2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            hidden_size=16,
            cross_attention_dim=8,
            cross_attention_dim_t5=8,
            pooled_projection_dim=8,
            text_len=4,
            text_len_t5=4,
        ),
        diffusers.DDPMScheduler,
        vae=vae8,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )


HUNYUAN_TEXT = spoken(
    ("prompt_embeds", words(1), words(7)),
    ("prompt_embeds_2", words(3), words(8)),
    ("prompt_attention_mask", torch.ones(1, 4), torch.ones(1, 4)),
    ("prompt_attention_mask_2", torch.ones(1, 4), torch.ones(1, 4)),
)


def prx(channels: int, **settings: Any) -> Any:
    return lambda: diffusers.PRXTransformer2DModel(
        patch_size=1,
        in_channels=channels,
        context_in_dim=8,
        hidden_size=8,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[2, 2],
        **settings,
    )


PRX_TEXT = spoken(
    ("prompt_embeds", words(1), words(7)),
    ("prompt_attention_mask", torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)),
)

SINGLE = {
    "ZImagePipeline": Case(of("ZImagePipeline", zimage), calls(off=0.0, text=z_text), **Z_IMAGE),
    "ZImageImg2ImgPipeline": Case(
        of("ZImageImg2ImgPipeline", zimage), calls(off=0.0, text=z_text, more=changed()), **Z_IMAGE
    ),
    "HiDreamImagePipeline": Case(
        adjusted(
            of(
                "HiDreamImagePipeline",
                lambda: diffusers.HiDreamImageTransformer2DModel(
                    patch_size=2,
                    in_channels=4,
                    out_channels=4,
                    num_layers=1,
                    num_single_layers=1,
                    attention_head_dim=8,
                    num_attention_heads=2,
                    caption_channels=[8, 8],
                    text_emb_dim=8,
                    num_routed_experts=2,
                    num_activated_experts=1,
                    axes_dims_rope=(4, 2, 2),
                    max_resolution=(32, 32),
                    llama_layers=(0, 1),
                ),
                **none(
                    "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3", "text_encoder_4", "tokenizer_4"
                ),
            ),
            default_sample_size=8,
        ),
        calls(
            text=spoken(
                ("prompt_embeds_t5", words(1), words(7)),
                ("prompt_embeds_llama3", words(3)[None].repeat(2, 1, 1, 1), words(8)[None].repeat(2, 1, 1, 1)),
                ("pooled_prompt_embeds", words(4, 1)[:, 0], words(5, 1)[:, 0]),
            )
        ),
        sign=-1,
        other=(8, 32),
        **T,
    ),
    "LuminaPipeline": Case(
        of(
            "LuminaPipeline",
            lambda: diffusers.LuminaNextDiT2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                hidden_size=8,
                num_layers=1,
                num_attention_heads=1,
                num_kv_heads=1,
                multiple_of=8,
                cross_attention_dim=8,
            ),
        ),
        calls(images="repeat", text=PIXART_TEXT),
        branches=("conditional", "unconditional"),
        sign=-1,
        size=(256, 256),
        other=(384, 640),
        **T,
        altered="three channels of four are guided",
    ),
    "Lumina2Pipeline": Case(
        of(
            "Lumina2Pipeline",
            lambda: diffusers.Lumina2Transformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                hidden_size=8,
                num_layers=1,
                num_refiner_layers=1,
                num_attention_heads=1,
                num_kv_heads=1,
                multiple_of=8,
                axes_dim_rope=[4, 2, 2],
                axes_lens=[32, 32, 32],
                cap_feat_dim=8,
            ),
        ),
        calls(images="repeat", text=PIXART_TEXT),
        sign=-1,
        size=(64, 64),
        other=(96, 160),
        **TWO_CALLS,
        **T,
        altered="its norm is that of the conditional output",
    ),
    "CogView3PlusPipeline": Case(
        of(
            "CogView3PlusPipeline",
            lambda: diffusers.CogView3PlusTransformer2DModel(
                patch_size=2,
                in_channels=4,
                num_layers=1,
                attention_head_dim=4,
                num_attention_heads=2,
                out_channels=4,
                text_embed_dim=8,
                time_embed_dim=8,
                condition_dim=2,
                pos_embed_max_size=16,
                sample_size=8,
            ),
            scaled("CogVideoXDDIM", prediction_type="v_prediction", clip_sample=False),
        ),
        calls(images="repeat", text=embeds(always=True)),
        **T,
    ),
    "CogView4Pipeline": Case(
        of(
            "CogView4Pipeline",
            lambda: diffusers.CogView4Transformer2DModel(
                patch_size=2,
                in_channels=4,
                num_layers=1,
                attention_head_dim=4,
                num_attention_heads=2,
                out_channels=4,
                text_embed_dim=8,
                time_embed_dim=8,
                condition_dim=2,
            ),
            lambda: FLOW(base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"),
        ),
        calls(text=embeds()),
        other=(48, 80),
        **TWO_CALLS,
        **T,
    ),
    "AuraFlowPipeline": Case(
        of(
            "AuraFlowPipeline",
            lambda: diffusers.AuraFlowTransformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_mmdit_layers=1,
                num_single_dit_layers=1,
                attention_head_dim=4,
                num_attention_heads=2,
                caption_projection_dim=8,
                joint_attention_dim=8,
                out_channels=4,
                pos_embed_max_size=256,
            ),
        ),
        calls(text=PIXART_TEXT),
        **T,
    ),
    "PixArtAlphaPipeline": Case(
        of("PixArtAlphaPipeline", pixart_transformer(), diffusers.DPMSolverMultistepScheduler),
        calls(text=PIXART_TEXT, more={"negative_prompt": None} | BINS),
        **T,
    ),
    "PixArtSigmaPipeline": Case(
        of("PixArtSigmaPipeline", pixart_transformer(), diffusers.DPMSolverMultistepScheduler),
        calls(text=PIXART_TEXT, more={"negative_prompt": None} | BINS),
        **T,
    ),
    "PixArtSigmaPAGPipeline": Case(
        of(
            "PixArtSigmaPAGPipeline",
            pixart_transformer(),
            diffusers.DPMSolverMultistepScheduler,
            pag_applied_layers="blocks.1",
        ),
        calls(text=PIXART_TEXT, more={"negative_prompt": None} | BINS | PERTURBED),
        **pag(),
        **T,
    ),
    "SanaPipeline": Case(
        of("SanaPipeline", sana_transformer(), lambda: FLOW(shift=3.0), vae=None),
        calls(text=PIXART_TEXT, more={"negative_prompt": None} | BINS),
        **SANA_SIZE,
        **T,
    ),
    "SanaPipeline, DPM++ flow": Case(
        of(
            "SanaPipeline",
            sana_transformer(),
            lambda: diffusers.DPMSolverMultistepScheduler(
                use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
            ),
            vae=None,
        ),
        calls(text=PIXART_TEXT, more={"negative_prompt": None} | BINS),
        **SANA_SIZE,
        **T,
    ),
    "SanaPAGPipeline": Case(
        of(
            "SanaPAGPipeline",
            sana_transformer(),
            lambda: FLOW(shift=3.0),
            vae=None,
            pag_applied_layers="transformer_blocks.0",
        ),
        calls(text=PIXART_TEXT, more={"negative_prompt": None} | BINS | PERTURBED),
        **pag(),
        size=(64, 64),
        other=(96, 160),
        **T,
    ),
    "SanaSprintPipeline": Case(
        of(
            "SanaSprintPipeline",
            sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads"),
            diffusers.SCMScheduler,
            vae=None,
        ),
        calls(
            text=embeds("prompt_attention_mask", negative=False),
            scale="",
            more=lambda steps, **_: BINS | ({"intermediate_timesteps": None} if steps != 2 else {}),
        ),
        branches=("conditional",),
        supports=without("guidance off"),
        **SANA_SIZE,
        **T,
        altered="a flow is turned into the velocity of a circle",
    ),
    "HunyuanDiTPipeline": Case(
        hunyuan("HunyuanDiTPipeline"),
        calls(images="repeat", text=HUNYUAN_TEXT, more=BINS),
        size=(64, 64),
        other=(96, 160),
        **T,
    ),
    "HunyuanDiTPAGPipeline": Case(
        hunyuan("HunyuanDiTPAGPipeline", pag_applied_layers="blocks.1"),
        calls(images="repeat", text=HUNYUAN_TEXT, more=BINS | PERTURBED),
        **pag(),
        supports=without("guidance off"),
        size=(64, 64),
        other=(96, 160),
        **T,
    ),
    "PRXPipeline": Case(
        of("PRXPipeline", prx(4)),
        calls(images="repeat", text=PRX_TEXT, more=BINS),
        supports=without("four images"),  # it says the time of two rows alone
        **T,
    ),
    "PRXPixelPipeline": Case(
        of("PRXPixelPipeline", prx(3, bottleneck_size=8, resolution_embeds=True), vae=...),
        calls(images="repeat", text=PRX_TEXT, latent=False, more=BINS | {"output_type": "pt"}),
        prediction="sample",
        altered="an estimate of x_0 is turned into a velocity",
        supports=without("four images"),
        **T,
    ),
}


class Reader:
    """What Qwen-Image 2.1 asks its processor when it is built."""

    def __init__(self) -> None:
        self.tokenizer = self

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        return [[0]]

    def encode(self, _: str) -> list[int]:
        return [1]


# Tokens that are single pixels of the latents.
PIXELS = {
    "QwenImage21Pipeline": Case(
        of(
            "QwenImage21Pipeline",
            lambda: diffusers.QwenImage21Transformer2DModel(
                patch_size=1,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                context_in_dim=8,
                axes_dims_rope=(8, 4, 4),
            ),
            vae=lambda: diffusers.AutoencoderKLQwenImage21(
                base_dim=8,
                z_dim=4,
                dim_mult=[1, 1, 1, 1],
                num_res_blocks=1,
            ),
            tokenizer=...,
            processor=Reader,
        ),
        calls(text=QWEN_TEXT, **TRUE),
        size=(128, 128),
        other=(192, 320),
        unpack=squares,
        last_tokens=True,  # those of the text stand before
        **TWO_CALLS,
        **T,
    ),
    "BriaFiboPipeline": Case(
        of(
            "BriaFiboPipeline",
            lambda: diffusers.BriaFiboTransformer2DModel(
                patch_size=1,
                in_channels=4,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=16,
                text_encoder_dim=8,
                axes_dims_rope=[0, 4, 4],
            ),
            vae=wan_vae,
            text_encoder=t5,
            tokenizer=tokenizer,
        ),
        calls(text=prompted()),
        size=(128, 128),
        other=(192, 320),
        unpack=squares,
        **T,
    ),
}

FLOWS: dict[str, Case] = {**SD3, **FLUX, **PACKED, **SINGLE, **PIXELS}
__all__ = ["FLOWS", "pixart", "prompted", "stable_diffusion_3", "talker", "tokenizer"]
