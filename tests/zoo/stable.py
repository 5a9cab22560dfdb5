"""Stable Diffusion and its kin: a UNet with cross-attention on latents, guidance in one batch."""

from typing import Any

import diffusers
import torch
from tiny import clip, conditional_unet, vae

from zoo.case import Case, built, calls, embeds, picture, without, words

NOTHING = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
TOKENS = {"text_encoder": clip, "tokenizer": None}


def unet(channels: int = 4, out_channels: int = 4, **settings: Any) -> Any:
    return lambda: conditional_unet(channels, out_channels, **settings)


def adapted_unet(**settings: Any) -> Any:
    """A UNet whose blocks all take the residuals of an adapter before they halve."""
    return lambda: diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=8,
        **settings,
    )


def scaled(cls: str = "DDIM", **settings: Any) -> Any:
    name = cls if cls.endswith("Scheduler") else f"{cls}Scheduler"
    return lambda: getattr(diffusers, name)(**({"beta_schedule": "scaled_linear", **PLAIN.get(name, {})} | settings))


PLAIN = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
    "PNDMScheduler": {"skip_prk_steps": True, "steps_offset": 1},
}


def controlnet(**settings: Any) -> Any:
    def build() -> Any:
        made = diffusers.ControlNetModel(
            in_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            cross_attention_dim=8,
            conditioning_embedding_out_channels=(4, 8),
            **settings,
        )
        for parameter in made.parameters():  # it begins with zeros, and would do nothing
            torch.nn.init.normal_(parameter, std=0.1)
        return made

    return build


def adapter() -> Any:
    return diffusers.T2IAdapter(in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=2)


def sd(name: str, scheduler: Any = None, unet: Any = unet(), **parts: Any) -> Any:  # noqa: B008
    cls = getattr(diffusers, name)
    return built(cls, **({"vae": vae, **TOKENS, "unet": unet, "scheduler": scheduler or scaled(), **NOTHING} | parts))


def shown(of: str = "image", **extra: Any) -> Any:
    """The arguments of classes that are given a picture of the size that they make."""

    def more(*, size: Any, **_: Any) -> dict[str, Any]:
        return {of: picture(size), **extra}

    return more


def changed(of: str = "image", masked: bool = False, **extra: Any) -> Any:
    """The arguments of image to image: half of twice the steps is done."""

    def more(*, size: Any, steps: int, **_: Any) -> dict[str, Any]:
        mask = torch.zeros(1, 1, *size)
        mask[..., : size[1] // 2] = 1
        more = {"mask_image": mask} if masked else {}
        return {of: picture(size), "num_inference_steps": 2 * steps, "strength": 0.5, **more, **extra}

    return more


def inpainted(*, size: Any, **_: Any) -> dict[str, Any]:
    mask = torch.zeros(1, 1, *size)
    mask[..., : size[1] // 2] = 1
    return {"image": picture(size), "mask_image": mask}


def both(*parts: Any) -> Any:
    return lambda **how: {name: value for part in parts for name, value in part(**how).items()}


def small(*, size: Any, **_: Any) -> dict[str, Any]:
    """A picture of half the size (the one to enlarge)."""
    return {"image": picture((size[0] // 2, size[1] // 2))}


def depth(*, size: Any, **_: Any) -> dict[str, Any]:
    return {"depth_map": picture(size, channels=1)[0]}


TEXT = embeds()
PAG = ("unconditional", "conditional", "perturbed"), ("conditional", "perturbed")
PERTURBED = {"pag_scale": 2.0}


def pag(**more: Any) -> dict[str, Any]:
    return {"branches": PAG[0], "unguided": PAG[1], **more}


HEARD = ["prompt_embeds"]


def stop_guiding(pipeline: Any, step: int, _: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Switch guidance off after the first step, as the documentation of diffusers advises."""
    if step:
        return {}
    pipeline._guidance_scale = 0.0
    return {"prompt_embeds": given["prompt_embeds"].chunk(2)[1]}


# The schedulers that people choose for Stable Diffusion.
SCHEDULERS = {
    "PNDM": scaled("PNDM"),
    "Euler": scaled("EulerDiscrete", timestep_spacing="leading", steps_offset=1),
    "Euler Karras": scaled("EulerDiscrete", use_karras_sigmas=True),
    "Euler ancestral": scaled("EulerAncestralDiscrete"),
    "Euler trailing": scaled("EulerDiscrete", timestep_spacing="trailing"),
    "Heun": scaled("HeunDiscrete"),
    "DPM2 Karras": scaled("KDPM2Discrete", use_karras_sigmas=True),
    "DPM2 ancestral": scaled("KDPM2AncestralDiscrete"),
    "LMS": scaled("LMSDiscrete"),
    "DPM++": scaled("DPMSolverMultistep"),
    "DPM++ Karras": scaled("DPMSolverMultistep", use_karras_sigmas=True),
    "DPM++ single": scaled("DPMSolverSinglestep"),
    "UniPC": scaled("UniPCMultistep"),
    "DEIS": scaled("DEISMultistep"),
    "DDPM": scaled("DDPM", clip_sample=False),
    "DDPM zero SNR": scaled(
        "DDIM", prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "TCD": scaled("TCD"),
    "v-prediction": scaled("DDIM", prediction_type="v_prediction"),
    "sample": scaled("DDIM", prediction_type="sample"),
}

STABLE: dict[str, Case] = {
    "StableDiffusionPipeline": Case(sd("StableDiffusionPipeline"), calls(text=TEXT)),
    **{
        f"StableDiffusionPipeline, {name}": Case(sd("StableDiffusionPipeline", each), calls(text=TEXT))
        for name, each in SCHEDULERS.items()
    },
    "StableDiffusionImg2ImgPipeline": Case(
        sd("StableDiffusionImg2ImgPipeline"), calls(text=TEXT, sized=False, more=changed())
    ),
    "StableDiffusionInpaintPipeline": Case(
        sd("StableDiffusionInpaintPipeline", unet=unet(9)), calls(text=TEXT, more=inpainted)
    ),
    "StableDiffusionInpaintPipeline, 4 channels": Case(
        sd("StableDiffusionInpaintPipeline"), calls(text=TEXT, more=inpainted)
    ),
    "StableDiffusionInstructPix2PixPipeline": Case(
        sd("StableDiffusionInstructPix2PixPipeline", unet=unet(8)),
        calls(text=TEXT, sized=False, more=shown(image_guidance_scale=1.5)),
        branches=("conditional", "image", "unconditional"),
    ),
    "StableDiffusionControlNetPipeline": Case(
        sd("StableDiffusionControlNetPipeline", controlnet=controlnet()), calls(text=TEXT, more=shown())
    ),
    "StableDiffusionControlNetImg2ImgPipeline": Case(
        sd("StableDiffusionControlNetImg2ImgPipeline", controlnet=controlnet()),
        calls(text=TEXT, more=both(changed(), shown("control_image"))),
    ),
    "StableDiffusionControlNetInpaintPipeline": Case(
        sd("StableDiffusionControlNetInpaintPipeline", controlnet=controlnet()),
        calls(text=TEXT, more=both(inpainted, shown("control_image"))),
    ),
    "StableDiffusionAdapterPipeline": Case(
        sd("StableDiffusionAdapterPipeline", unet=adapted_unet(), adapter=adapter), calls(text=TEXT, more=shown())
    ),
    "StableDiffusionPAGPipeline": Case(
        sd("StableDiffusionPAGPipeline", pag_applied_layers="mid"), calls(text=TEXT, more=PERTURBED), **pag()
    ),
    "StableDiffusionPAGPipeline, no PAG": Case(
        sd("StableDiffusionPAGPipeline", pag_applied_layers="mid"), calls(text=TEXT, more={"pag_scale": 0.0})
    ),
    "StableDiffusionPAGImg2ImgPipeline": Case(
        sd("StableDiffusionPAGImg2ImgPipeline", pag_applied_layers="mid"),
        calls(text=TEXT, sized=False, more=changed(**PERTURBED)),
        **pag(),
    ),
    "StableDiffusionPAGInpaintPipeline": Case(
        sd("StableDiffusionPAGInpaintPipeline", unet=unet(9), pag_applied_layers="mid"),
        calls(text=TEXT, more=changed(masked=True, **PERTURBED)),
        **pag(),
    ),
    "StableDiffusionControlNetPAGPipeline": Case(
        sd("StableDiffusionControlNetPAGPipeline", controlnet=controlnet(), pag_applied_layers="mid"),
        calls(text=TEXT, more=shown(**PERTURBED)),
        **pag(),
    ),
    "StableDiffusionUpscalePipeline": Case(
        built(
            diffusers.StableDiffusionUpscalePipeline,
            vae=vae,
            **TOKENS,
            unet=unet(7, num_class_embeds=1000, only_cross_attention=(True, False)),
            low_res_scheduler=scaled("DDPM"),
            scheduler=scaled("DDIM", prediction_type="v_prediction"),
            max_noise_level=350,
        ),
        calls(text=TEXT, sized=False, more=small),
    ),
    "StableDiffusionLatentUpscalePipeline": Case(
        built(
            diffusers.StableDiffusionLatentUpscalePipeline,
            vae=vae,
            **TOKENS,
            unet=lambda: diffusers.UNet2DConditionModel(
                in_channels=8,
                out_channels=5,
                block_out_channels=(32, 32, 64, 64),
                layers_per_block=2,
                norm_num_groups=None,
                attention_head_dim=4,
                cross_attention_dim=8,
                time_cond_proj_dim=128 + 8,
                time_embedding_type="fourier",
                mid_block_type=None,
                conv_in_kernel=1,
                conv_out_kernel=1,
                resnet_time_scale_shift="scale_shift",
                timestep_post_act="gelu",
                act_fn="gelu",
                down_block_types=("KDownBlock2D", *["KCrossAttnDownBlock2D"] * 3),
                up_block_types=(*["KCrossAttnUpBlock2D"] * 3, "KUpBlock2D"),
            ),
            scheduler=scaled("EulerDiscrete", prediction_type="sample"),
        ),
        calls(
            images=None,
            sized=False,
            more=lambda size, images, guided, **_: (
                {
                    "image": picture((size[0] // 2, size[1] // 2)).repeat(images, 1, 1, 1),
                    "prompt_embeds": words(1).repeat(images, 1, 1),
                    "pooled_prompt_embeds": words(3)[:, 0].repeat(images, 1),
                }
                | (
                    {
                        "negative_prompt_embeds": words(7).repeat(images, 1, 1),
                        "negative_pooled_prompt_embeds": words(8)[:, 0].repeat(images, 1),
                    }
                    if guided
                    else {}
                )
            ),
        ),
        size=(32, 32),
        other=(32, 64),
        prediction="v_prediction",
        sign=-1,
        altered="the estimate c_skip x + c_out F is made of it",
    ),
    "StableDiffusionDepth2ImgPipeline": Case(
        built(
            diffusers.StableDiffusionDepth2ImgPipeline,
            vae=vae,
            **TOKENS,
            unet=unet(5),
            scheduler=scaled("PNDM"),
            depth_estimator=vae,
            feature_extractor=None,
        ),
        calls(text=TEXT, sized=False, more=both(changed(), depth)),
    ),
    "LatentConsistencyModelPipeline": Case(
        sd("LatentConsistencyModelPipeline", scaled("LCM"), unet=unet(time_cond_proj_dim=8)),
        calls(text=embeds(negative=False), scale="guidance_scale", on=8.5),
        branches=("conditional",),
    ),
    "LatentConsistencyModelImg2ImgPipeline": Case(
        sd("LatentConsistencyModelImg2ImgPipeline", scaled("LCM"), unet=unet(time_cond_proj_dim=8)),
        calls(text=embeds(negative=False), sized=False, on=8.5, more=shown(strength=0.5)),
        branches=("conditional",),
    ),
    "StableDiffusionPipeline, LCM-LoRA": Case(
        sd("StableDiffusionPipeline", scaled("LCM")), calls(text=TEXT, on=1.5, off=1.0)
    ),
    "StableDiffusionPipeline, one step": Case(
        sd("StableDiffusionPipeline", scaled("EulerDiscrete", timestep_spacing="trailing")),
        calls(text=TEXT, on=2.0, off=0.0, more={"num_inference_steps": 1}),
        supports=without("four steps"),
    ),
    "StableDiffusionPipeline, guided at first": Case(
        sd("StableDiffusionPipeline"),
        calls(text=TEXT, more={"callback_on_step_end": stop_guiding, "callback_on_step_end_tensor_inputs": HEARD}),
        at_times=("conditional",),
        supports=frozenset({"default", "four steps", "four images"}),
    ),
    "StableDiffusionSAGPipeline": Case(sd("StableDiffusionSAGPipeline"), calls(text=TEXT, more={"sag_scale": 0.0})),
    "StableDiffusionPanoramaPipeline": Case(
        sd("StableDiffusionPanoramaPipeline"),
        calls(text=TEXT, more={"stride": 8}),
        refused="one step is made of several windows",
        supports=frozenset({"default"}),
    ),
}

BIG = {"text_encoder": clip, "text_encoder_2": lambda: clip(projection=8), "tokenizer": None, "tokenizer_2": None}
ADDED = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 8 + 6 * 4,
}
AESTHETIC = ADDED | {"projection_class_embeddings_input_dim": 8 + 5 * 4}
POOLED = embeds(pooled=True)


def xl(name: str, scheduler: Any = None, settings: dict[str, Any] = ADDED, channels: int = 4, **parts: Any) -> Any:
    usual = {
        "vae": vae,
        **BIG,
        "unet": unet(channels, **settings),
        "scheduler": scheduler or scaled("EulerDiscrete", steps_offset=1),
        "add_watermarker": False,
    }
    return built(getattr(diffusers, name), **{key: value for key, value in (usual | parts).items() if value is not ...})


LARGE: dict[str, Case] = {
    "StableDiffusionXLPipeline": Case(xl("StableDiffusionXLPipeline"), calls(text=POOLED)),
    "StableDiffusionXLPipeline, EDM": Case(
        xl("StableDiffusionXLPipeline", lambda: diffusers.EDMEulerScheduler()), calls(text=POOLED), prediction="edm"
    ),
    "StableDiffusionXLPipeline, EDM DPM++": Case(
        xl("StableDiffusionXLPipeline", lambda: diffusers.EDMDPMSolverMultistepScheduler()),
        calls(text=POOLED),
        prediction="edm",
    ),
    "StableDiffusionXLPipeline, refined": Case(
        xl("StableDiffusionXLPipeline"),
        calls(text=POOLED, more={"denoising_end": 0.5}),
        supports=without("default", "guidance off", "other size", "four images"),
    ),
    "StableDiffusionXLPipeline, turbo": Case(
        xl("StableDiffusionXLPipeline", scaled("EulerAncestralDiscrete", timestep_spacing="trailing")),
        calls(text=POOLED, off=0.0, on=2.0),
    ),
    "StableDiffusionXLImg2ImgPipeline": Case(
        xl("StableDiffusionXLImg2ImgPipeline"), calls(text=POOLED, sized=False, more=changed())
    ),
    "StableDiffusionXLImg2ImgPipeline, refiner": Case(
        xl("StableDiffusionXLImg2ImgPipeline", settings=AESTHETIC, requires_aesthetics_score=True, text_encoder=None),
        calls(text=POOLED, sized=False, more=changed()),
    ),
    "StableDiffusionXLInpaintPipeline": Case(
        xl("StableDiffusionXLInpaintPipeline", channels=9), calls(text=POOLED, more=changed(masked=True))
    ),
    "StableDiffusionXLControlNetPipeline": Case(
        xl("StableDiffusionXLControlNetPipeline", controlnet=controlnet(**ADDED)), calls(text=POOLED, more=shown())
    ),
    "StableDiffusionXLControlNetImg2ImgPipeline": Case(
        xl("StableDiffusionXLControlNetImg2ImgPipeline", controlnet=controlnet(**ADDED)),
        calls(text=POOLED, more=both(changed(), shown("control_image"))),
    ),
    "StableDiffusionXLAdapterPipeline": Case(
        xl("StableDiffusionXLAdapterPipeline", unet=adapted_unet(**ADDED), adapter=adapter, add_watermarker=...),
        calls(text=POOLED, more=shown()),
    ),
    "StableDiffusionXLPAGPipeline": Case(
        xl("StableDiffusionXLPAGPipeline", pag_applied_layers="mid"), calls(text=POOLED, more=PERTURBED), **pag()
    ),
    "StableDiffusionXLPAGImg2ImgPipeline": Case(
        xl("StableDiffusionXLPAGImg2ImgPipeline", pag_applied_layers="mid"),
        calls(text=POOLED, sized=False, more=changed(**PERTURBED)),
        **pag(),
    ),
    "StableDiffusionXLPAGInpaintPipeline": Case(
        xl("StableDiffusionXLPAGInpaintPipeline", channels=9, pag_applied_layers="mid"),
        calls(text=POOLED, more=changed(masked=True, **PERTURBED)),
        **pag(),
    ),
    "StableDiffusionXLInstructPix2PixPipeline": Case(
        xl("StableDiffusionXLInstructPix2PixPipeline", channels=8),
        calls(text=POOLED, more=shown(image_guidance_scale=1.5)),
        branches=("conditional", "image", "unconditional"),
    ),
}
