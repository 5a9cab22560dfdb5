"""Pixels, Kandinsky, cascades and what else works with a UNet or a class label."""

from typing import Any

import diffusers
import torch
from diffusers.pipelines.deprecated.wuerstchen import WuerstchenPrior
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from tiny import clip, conditional_unet, t5, unconditional_unet, vae
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from zoo.case import Case, Size, built, calls, embeds, picture, without, words
from zoo.stable import NOTHING, both, changed, scaled, sd, unet

WORDS = ("<pad>", "<s>", "</s>", "<unk>", "a", "photo", "of", "the", "sea", "blurred", "red", "green")
PROMPT = {"prompt": "a photo of the sea"}


def tokenizer(length: int = 77) -> Any:
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", WORDS.index("<s>")), ("</s>", WORDS.index("</s>"))]
    )
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=length, **special)


def talker(projected: bool = False, length: int = 77) -> Any:
    config = CLIPTextConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=length,
        projection_dim=8,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def long_t5() -> Any:
    return T5EncoderModel(T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))


def watcher() -> Any:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=8,
            projection_dim=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=16,
            patch_size=4,
        )
    )


def extractor() -> Any:
    return CLIPImageProcessor(crop_size={"height": 16, "width": 16}, size={"shortest_edge": 16})


def prompted(**extra: Any) -> Any:
    """The arguments of classes that read words."""

    def text(*, guided: bool, **_: Any) -> dict[str, Any]:
        return PROMPT | ({"negative_prompt": "blurred"} if guided else {}) | extra

    return text


LEARNED = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range"}
IF_TEXT = both(embeds(), lambda **_: {"output_type": "pt"})


def deep(name: str, channels: int = 3, super_resolution: bool = False, **settings: Any) -> Any:
    more = {"image_noising_scheduler": scaled("DDPM")} if super_resolution else {}
    classes = {"num_class_embeds": 1000} if super_resolution else {}
    return built(
        getattr(diffusers, name),
        tokenizer=None,
        text_encoder=t5,
        unet=unet(channels, 6, **classes, **settings),
        scheduler=lambda: diffusers.DDPMScheduler(**LEARNED),
        watermarker=None,
        **NOTHING,
        **more,
    )


DEEP = {
    "IFPipeline": Case(deep("IFPipeline"), calls(text=IF_TEXT, latent=False)),
    "IFPipeline, fixed variance": Case(
        built(
            diffusers.IFPipeline,
            tokenizer=None,
            text_encoder=t5,
            unet=unet(3, 6),
            scheduler=lambda: diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
            watermarker=None,
            **NOTHING,
        ),
        calls(text=IF_TEXT, latent=False),
    ),
    "IFImg2ImgPipeline": Case(
        deep("IFImg2ImgPipeline"), calls(text=IF_TEXT, latent=False, sized=False, more=changed())
    ),
    "IFInpaintingPipeline": Case(
        deep("IFInpaintingPipeline"), calls(text=IF_TEXT, latent=False, sized=False, more=changed(masked=True))
    ),
    "IFSuperResolutionPipeline": Case(
        deep("IFSuperResolutionPipeline", 6, True),
        calls(text=IF_TEXT, latent=False, more=lambda size, **_: {"image": picture((size[0] // 2, size[1] // 2))}),
    ),
    "IFImg2ImgSuperResolutionPipeline": Case(
        deep("IFImg2ImgSuperResolutionPipeline", 6, True),
        calls(
            text=IF_TEXT,
            latent=False,
            sized=False,
            more=both(
                changed("original_image"), lambda size, **_: {"image": picture((size[0] // 2, size[1] // 2), seed=3)}
            ),
        ),
    ),
}


def movq() -> Any:
    return diffusers.VQModel(
        block_out_channels=[32, 32],
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=8,
        vq_embed_dim=4,
    )


def kandinsky_unet(channels: int = 4, addition: str = "image", hidden: str = "image_proj") -> Any:
    return lambda: diffusers.UNet2DConditionModel(
        in_channels=channels,
        out_channels=8,
        addition_embed_type=addition,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        encoder_hid_dim=8,
        encoder_hid_dim_type=hidden,
        cross_attention_dim=8,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )


def kandinsky(name: str, unet: Any, scheduler: Any = None) -> Any:
    return built(
        getattr(diffusers, name),
        unet=unet,
        movq=movq,
        scheduler=scheduler or scaled("DDIM", beta_schedule="linear", beta_start=0.00085, beta_end=0.012),
    )


def seen(**_: Any) -> dict[str, Any]:
    return {"image_embeds": words(1, 1)[:, 0], "negative_image_embeds": words(2, 1)[:, 0]}


def masked_picture(*, size: Size, **_: Any) -> dict[str, Any]:
    mask = torch.zeros(1, 1, *size)
    mask[..., : size[1] // 2] = 1
    return {"image": picture(size), "mask_image": mask}


def words_and_pictures(name: str, unet: Any) -> Any:
    config = MCLIPConfig(
        numDims=8,
        transformerDimensions=8,
        hidden_size=8,
        intermediate_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=16,
        max_position_embeddings=90,
        pad_token_id=0,
    )
    return built(
        getattr(diffusers, name),
        text_encoder=lambda: MultilingualCLIP(config),
        tokenizer=tokenizer,
        unet=unet,
        movq=movq,
        scheduler=scaled("DDIM", beta_schedule="linear", beta_start=0.00085, beta_end=0.012),
    )


# Kandinsky makes latents of sides that are whole multiples of movq_scale_factor squared.
KANDINSKY = {
    "KandinskyPipeline": Case(
        words_and_pictures("KandinskyPipeline", kandinsky_unet(4, "text_image", "text_image_proj")),
        calls(text=prompted(), latent=False, more=both(seen, lambda **_: {"output_type": "pt"})),
    ),
    "KandinskyV22Pipeline": Case(kandinsky("KandinskyV22Pipeline", kandinsky_unet()), calls(more=seen)),
    "KandinskyV22Pipeline, DDPM": Case(
        kandinsky("KandinskyV22Pipeline", kandinsky_unet(), lambda: diffusers.DDPMScheduler(**LEARNED)),
        calls(more=seen),
    ),
    "KandinskyV22Img2ImgPipeline": Case(
        kandinsky("KandinskyV22Img2ImgPipeline", kandinsky_unet()), calls(more=both(seen, changed()))
    ),
    "KandinskyV22InpaintPipeline": Case(
        kandinsky("KandinskyV22InpaintPipeline", kandinsky_unet(9)), calls(more=both(seen, masked_picture))
    ),
    "KandinskyV22ControlnetPipeline": Case(
        kandinsky("KandinskyV22ControlnetPipeline", kandinsky_unet(8, "image_hint")),
        calls(more=both(seen, lambda size, **_: {"hint": picture((4 * size[0], 4 * size[1])), "output_type": "pt"})),
    ),
    "Kandinsky3Pipeline": Case(
        built(
            diffusers.Kandinsky3Pipeline,
            tokenizer=None,
            text_encoder=t5,
            unet=lambda: diffusers.Kandinsky3UNet(
                in_channels=4,
                time_embedding_dim=8,
                groups=2,
                attention_head_dim=4,
                layers_per_block=3,
                block_out_channels=(8, 16),
                cross_attention_dim=8,
                encoder_hid_dim=8,
            ),
            scheduler=scaled("DDPM", beta_schedule="squaredcos_cap_v2"),
            movq=movq,
        ),
        calls(
            text=lambda guided, **_: {
                "prompt_embeds": words(1),
                "attention_mask": torch.ones(1, 4),
                **({"negative_prompt_embeds": words(7), "negative_attention_mask": torch.ones(1, 4)} if guided else {}),
            }
        ),
        size=(64, 64),
        other=(128, 192),
    ),
}


def cascade_unet(**settings: Any) -> Any:
    usual = {
        "conditioning_dim": 8,
        "block_out_channels": (8, 8),
        "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "switch_level": (False,),
        "clip_text_pooled_in_channels": 8,
        "dropout": (0.0, 0.0),
        "timestep_ratio_embedding_dim": 8,
    }
    return lambda: diffusers.models.StableCascadeUNet(**(usual | settings))


def cascade_text(*, guided: bool, images: int, **_: Any) -> dict[str, Any]:
    given = {"prompt_embeds": words(1), "prompt_embeds_pooled": words(3, 1)}
    if guided:
        given |= {"negative_prompt_embeds": words(7), "negative_prompt_embeds_pooled": words(8, 1)}
    return given


def repeated(text: Any) -> Any:
    """Say the same of every image, for classes that count no images of a prompt."""
    return lambda images, **how: {
        name: value.repeat(images, *[1] * (value.ndim - 1)) for name, value in text(images=images, **how).items()
    }


CASCADES = {
    "StableCascadePriorPipeline": Case(
        built(
            diffusers.StableCascadePriorPipeline,
            tokenizer=None,
            text_encoder=lambda: clip(projection=8),
            prior=cascade_unet(in_channels=4, out_channels=4, clip_text_in_channels=8, clip_image_in_channels=8),
            scheduler=lambda: diffusers.DDPMWuerstchenScheduler(),
            resolution_multiple=2.0,
            feature_extractor=None,
            image_encoder=None,
        ),
        calls(text=cascade_text, latent=False, more={"output_type": "pt"}),
        branches=("conditional", "unconditional"),
        prediction="epsilon",
        networks=("prior",),
    ),
    "StableCascadeDecoderPipeline": Case(
        built(
            diffusers.StableCascadeDecoderPipeline,
            tokenizer=None,
            text_encoder=lambda: clip(projection=8),
            decoder=cascade_unet(in_channels=4, out_channels=4, effnet_in_channels=4),
            scheduler=lambda: diffusers.DDPMWuerstchenScheduler(),
            vqgan=lambda: diffusers.pipelines.deprecated.wuerstchen.PaellaVQModel(
                bottleneck_blocks=1, num_vq_embeddings=2
            ),
            latent_dim_scale=2.0,
        ),
        calls(
            text=repeated(cascade_text),
            sized=False,
            images=None,
            more=lambda size, images, **_: {
                "image_embeddings": picture((size[0] // 4, size[1] // 4), 4).repeat(images, 1, 1, 1)
            },
        ),
        branches=("conditional", "unconditional"),
        prediction="epsilon",
        networks=("decoder",),
    ),
    "WuerstchenPriorPipeline": Case(
        built(
            diffusers.WuerstchenPriorPipeline,
            tokenizer=None,
            text_encoder=clip,
            prior=lambda: WuerstchenPrior(c_in=4, c=8, c_cond=8, c_r=8, depth=1, nhead=2, dropout=0.0),
            scheduler=lambda: diffusers.DDPMWuerstchenScheduler(),
            resolution_multiple=2.0,
        ),
        calls(text=embeds(), latent=False, more={"output_type": "pt"}),
        branches=("conditional", "unconditional"),
        prediction="epsilon",
        networks=("prior",),
    ),
}

PRIORS = {
    "KandinskyV22PriorPipeline": Case(
        built(
            diffusers.KandinskyV22PriorPipeline,
            prior=lambda: diffusers.PriorTransformer(
                num_attention_heads=2, attention_head_dim=4, embedding_dim=8, num_layers=1, num_embeddings=77
            ),
            image_encoder=watcher,
            text_encoder=lambda: talker(projected=True),
            tokenizer=tokenizer,
            scheduler=lambda: diffusers.UnCLIPScheduler(
                variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=5.0
            ),
            image_processor=extractor,
        ),
        calls(text=prompted(), sized=False, latent=False, more={"output_type": "pt"}),
        supports=frozenset({"default", "guidance off"}),
        refused="it makes an embedding, which has no resolution",
    ),
}

UNGUIDED = {"branches": ("conditional",), "supports": without("guidance off", "other size")}


def plainly(name: str, network: Any = unconditional_unet, scheduler: Any = None, **parts: Any) -> Any:
    return built(getattr(diffusers, name), unet=network, scheduler=scheduler or diffusers.DDIMScheduler, **parts)


MARIGOLD_TEXT = {"text_encoder": talker, "tokenizer": tokenizer}


def marigold(name: str, channels: int = 8, out_channels: int = 4, **extra: Any) -> Case:
    return Case(
        built(
            getattr(diffusers, name),
            unet=unet(channels, out_channels),
            vae=vae,
            scheduler=scaled("DDIM", prediction_type="v_prediction", timestep_spacing="trailing"),
            **MARIGOLD_TEXT,
            **extra,
        ),
        calls(
            images=None,
            sized=False,
            latent=False,
            scale="",
            more=lambda size, images, **_: {
                "image": picture(size).repeat(images, 1, 1, 1),
                "batch_size": images,
                "processing_resolution": 0,
                "output_type": "pt",
            },
        ),
        branches=("conditional",),
        supports=without("guidance off"),
    )


BATCH = calls(images="batch_size", sized=False, latent=False, scale="", more={"output_type": "np"})
OTHERS = {
    "DDPMPipeline": Case(plainly("DDPMPipeline", scheduler=diffusers.DDPMScheduler), BATCH, size=(8, 8), **UNGUIDED),
    "DDIMPipeline": Case(plainly("DDIMPipeline"), BATCH, size=(8, 8), **UNGUIDED),
    "LDMPipeline": Case(
        plainly("LDMPipeline", lambda: unconditional_unet(4), scaled("DDIM"), vqvae=vae),
        BATCH,
        **UNGUIDED,
    ),
    "LDMTextToImagePipeline": Case(
        built(
            diffusers.LDMTextToImagePipeline,
            vqvae=vae,
            bert=talker,
            tokenizer=tokenizer,
            unet=unet(),
            scheduler=scaled("DDIM"),
        ),
        calls(
            images=None,
            latent=False,
            more=lambda images, **_: {"prompt": [PROMPT["prompt"]] * images, "output_type": "np"},
        ),
        size=(64, 64),
        other=(96, 160),
    ),
    "LDMSuperResolutionPipeline": Case(
        built(
            diffusers.LDMSuperResolutionPipeline,
            vqvae=lambda: diffusers.VQModel(block_out_channels=[4], norm_num_groups=4, num_vq_embeddings=8),
            unet=lambda: diffusers.UNet2DModel(
                in_channels=6,
                out_channels=3,
                block_out_channels=(8, 16),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                norm_num_groups=4,
                attention_head_dim=4,
            ),
            scheduler=scaled("DDIM"),
        ),
        calls(
            images=None,
            sized=False,
            latent=False,
            scale="",
            more=lambda size, images, **_: {
                "image": picture(size).repeat(images, 1, 1, 1),
                "batch_size": images,
                "output_type": "np",
            },
        ),
        branches=("conditional",),
        supports=without("guidance off"),
    ),
    "DiTPipeline": Case(
        built(
            diffusers.DiTPipeline,
            transformer=lambda: diffusers.DiTTransformer2DModel(
                sample_size=8,
                num_layers=1,
                patch_size=2,
                attention_head_dim=4,
                num_attention_heads=2,
                in_channels=4,
                out_channels=8,
                attention_bias=True,
                num_embeds_ada_norm=1000,
                norm_type="ada_norm_zero",
                norm_elementwise_affine=False,
            ),
            vae=vae,
            scheduler=diffusers.DDIMScheduler,
        ),
        calls(
            images=None,
            sized=False,
            latent=False,
            more=lambda images, **_: {"class_labels": list(range(1, images + 1)), "output_type": "np"},
        ),
        branches=("conditional", "unconditional"),
        networks=("transformer",),
        doubled=True,
        supports=without("other size"),
    ),
    "StableDiffusionImageVariationPipeline": Case(
        built(
            diffusers.StableDiffusionImageVariationPipeline,
            vae=vae,
            image_encoder=watcher,
            unet=unet(),
            scheduler=scaled("PNDM"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ),
        calls(more=lambda **_: {"image": picture((16, 16))}),
    ),
    "MarigoldDepthPipeline": marigold(
        "MarigoldDepthPipeline", prediction_type="depth", scale_invariant=True, shift_invariant=True
    ),
    "MarigoldNormalsPipeline": marigold("MarigoldNormalsPipeline", prediction_type="normals"),
    "MarigoldIntrinsicsPipeline": marigold(
        "MarigoldIntrinsicsPipeline",
        12,
        8,
        prediction_type="intrinsics",
        target_properties={
            "target_names": ["albedo", "roughness"],
            "albedo": {"prediction_space": "srgb", "up_to_scale": False},
            "roughness": {"prediction_space": "linear", "up_to_scale": False},
        },
    ),
    "ConsistencyModelPipeline": Case(
        plainly("ConsistencyModelPipeline", scheduler=diffusers.CMStochasticIterativeScheduler),
        BATCH,
        size=(8, 8),
        refused="the scheduler has no alpha that is known",
        **UNGUIDED,
    ),
    "RePaintPipeline": Case(
        plainly("RePaintPipeline", scheduler=diffusers.RePaintScheduler),
        calls(
            images=None,
            sized=False,
            latent=False,
            scale="",
            more=lambda **_: {
                "image": picture((8, 8)),
                "mask_image": torch.ones(1, 1, 8, 8),
                "output_type": "np",
                "jump_length": 1,
                "jump_n_sample": 2,
                "num_inference_steps": 4,
            },
        ),
        size=(8, 8),
        branches=("conditional",),
        supports=frozenset({"default"}),
        refused="time jumps back and forth",
    ),
}

ODD: dict[str, Case] = {**DEEP, **KANDINSKY, **CASCADES, **PRIORS, **OTHERS}
__all__ = ["ODD", "conditional_unet", "extractor", "long_t5", "sd", "talker", "tokenizer", "watcher"]
