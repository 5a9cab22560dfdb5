"""Images are read from tokens, patches and videos as the pipeline itself lays them out."""

from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers.pipelines.bria_fibo.pipeline_bria_fibo import BriaFiboPipeline
from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline
from diffusers.pipelines.nucleusmoe_image.pipeline_nucleusmoe_image import NucleusMoEImagePipeline

from reschrom.pipelines.geometry import image_layout

IMAGES = torch.randn(2, 16, 6, 10, generator=torch.Generator().manual_seed(0))
NETWORK = SimpleNamespace(config={})


def pipeline(kind, channels=None, **more):
    """Return what packs as a class of diffusers does, beside an autoencoder of so many channels."""
    names = [name for name in dir(kind) if name.startswith(("_pack_latents", "_unpatchify"))]
    vae = None if channels is None else SimpleNamespace(config={"latent_channels": channels})
    return SimpleNamespace(vae=vae, **{name: getattr(kind, name) for name in names}, **more)


def ids(rows, columns, extra=0, width=3):
    """Return where tokens of an image stand, and tokens of a reference behind them."""
    grid = torch.zeros(rows, columns, width)
    grid[..., 1], grid[..., 2] = torch.arange(rows)[:, None], torch.arange(columns)
    behind = torch.cat([torch.ones(extra, 1), torch.zeros(extra, width - 1)], dim=1)
    return torch.cat([grid.reshape(-1, width), behind])


def test_patches_of_two_by_two_are_put_together():
    tokens = diffusers.FluxPipeline._pack_latents(IMAGES, 2, 16, 6, 10)
    for told in ({"img_ids": ids(3, 5, extra=4)}, {"img_shapes": [[(1, 3, 5), (1, 5, 3)]] * 2}):
        layout = image_layout(pipeline(diffusers.FluxPipeline, 16), NETWORK, told, tokens)
        assert torch.equal(layout(tokens), IMAGES)


def test_single_pixels_are_no_patches():
    tokens = BriaFiboPipeline._pack_latents_no_patch(IMAGES, 2, 16, 6, 10)
    layout = image_layout(pipeline(BriaFiboPipeline, 16), NETWORK, {"img_ids": ids(6, 10)}, tokens)
    assert torch.equal(layout(tokens), IMAGES)


def test_the_last_picture_of_a_list_is_the_image_where_its_tokens_are():
    tokens = BriaFiboPipeline._pack_latents_no_patch(IMAGES, 2, 16, 6, 10)
    for told in ({"img_shapes": [[(1, 10, 6), (1, 6, 10)]]}, {"img_ids": torch.cat([ids(2, 2), ids(6, 10)])}):
        layout = image_layout(pipeline(BriaFiboPipeline, 16), NETWORK, told, tokens, last=True)
        assert torch.equal(layout(tokens), IMAGES)


def test_patches_that_were_made_before_packing_are_undone_after_it():
    tokens = Flux2Pipeline._pack_latents(Flux2Pipeline._patchify_latents(IMAGES))
    told = {"img_ids": ids(3, 5, width=4)[None].expand(2, -1, -1)}
    assert torch.equal(image_layout(pipeline(Flux2Pipeline, 16), NETWORK, told, tokens)(tokens), IMAGES)
    # Ernie-Image steps the patches as channels.
    patches = Flux2Pipeline._patchify_latents(IMAGES)
    assert torch.equal(image_layout(pipeline(Flux2Pipeline, 16), NETWORK, {}, patches)(patches), IMAGES)


def test_a_packing_that_asks_for_the_patch_is_told_it():
    tokens = NucleusMoEImagePipeline._pack_latents(IMAGES, 2, 16, 6, 10, 2)
    told = {"img_shapes": [(1, 3, 5)]}
    assert torch.equal(image_layout(pipeline(NucleusMoEImagePipeline, 16), NETWORK, told, tokens)(tokens), IMAGES)


@pytest.mark.parametrize(("patch", "patch_t"), [(1, 1), (2, 1)])
def test_tokens_of_a_video_are_a_video(patch, patch_t):
    video = torch.randn(2, 8, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    tokens = diffusers.LTXPipeline._pack_latents(video, patch, patch_t)
    network = SimpleNamespace(config={"patch_size": patch, "patch_size_t": patch_t})
    told = {"num_frames": 3, "height": 4 // patch, "width": 6 // patch}
    layout = image_layout(pipeline(diffusers.LTXPipeline, 8), network, told, tokens)
    assert torch.equal(layout(tokens), video.movedim(1, 2))


class CogVideoXTransformer3DModel(SimpleNamespace):
    pass


class WanTransformer3DModel(SimpleNamespace):
    pass


class Kandinsky5Transformer3DModel(SimpleNamespace):
    pass


@pytest.mark.parametrize(
    ("network", "channels", "shape", "axis"),
    [
        (SimpleNamespace(config={"out_channels": 4}), 4, (2, 4, 3, 8, 8), 1),
        (SimpleNamespace(config={"out_channels": 4}), None, (2, 3, 4, 8, 8), 2),
        (SimpleNamespace(config={"in_channels": 4}), 16, (2, 4, 3, 8, 8), 1),
        # As many frames as channels: known networks tell.
        (CogVideoXTransformer3DModel(config={}), 4, (2, 4, 4, 8, 8), 2),
        (WanTransformer3DModel(config={}), 4, (2, 4, 4, 8, 8), 1),
        (Kandinsky5Transformer3DModel(config={}), 4, (2, 3, 8, 8, 4), 4),
    ],
)
def test_the_channels_of_a_video_are_found(network, channels, shape, axis):
    video = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    layout = image_layout(pipeline(object, channels), network, {}, video)
    assert torch.equal(layout(video), video.movedim(axis, 2))


REFUSED = {
    "sound": (pipeline(object, vocoder=object()), {}, IMAGES, "makes sound"),
    "embeddings": (pipeline(object), {}, torch.zeros(2, 8), r"3 to 5 axes; SimpleNamespace steps the shape \(2, 8\)"),
    "frames or channels": (pipeline(object, 4), {}, torch.zeros(1, 4, 4, 8, 8), "which axis of a video holds"),
    "no channels": (pipeline(object), {}, torch.zeros(1, 4, 3, 8, 8), "which axis of a video holds"),
    "no places": (pipeline(diffusers.FluxPipeline), {}, torch.zeros(1, 16, 8), "where its 16 tokens stand"),
    "places in disorder": (
        pipeline(diffusers.FluxPipeline),
        {"img_ids": ids(4, 4).flip(0)},
        torch.zeros(1, 16, 8),
        "where its 16 tokens stand",
    ),
    "another picture": (
        pipeline(diffusers.FluxPipeline),
        {"img_shapes": [(1, 3, 3)]},
        torch.zeros(1, 16, 8),
        "where its 16 tokens stand",
    ),
    "no packing": (pipeline(object), {"img_ids": ids(4, 4)}, torch.zeros(1, 16, 8), "packs its 16 tokens of 8 numbers"),
    "no packing that fits": (
        pipeline(diffusers.FluxPipeline),
        {"img_ids": ids(4, 4)},
        torch.zeros(1, 16, 7),
        "packs its 16 tokens of 7 numbers",
    ),
    "a packing that asks for something else": (
        SimpleNamespace(_pack_latents=lambda latents, batch_size, num_channels_latents, height, width, order: latents),
        {"img_ids": ids(4, 4)},
        torch.zeros(1, 16, 8),
        "packs its 16 tokens of 8 numbers",
    ),
    "layers": (
        pipeline(diffusers.QwenImageLayeredPipeline),
        {"img_shapes": [(1, 4, 4)]},
        torch.zeros(1, 16, 8),
        "packs its 16 tokens of 8 numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_laid_out_otherwise_is_refused(name):
    made, told, stepped, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        image_layout(made, NETWORK, told, stepped)
