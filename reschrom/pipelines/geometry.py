"""From what a scheduler steps to images: the layout of tokens, frames and channels, as the pipeline itself has it.

Images come out as (N, C, H, W), videos as (N, F, C, H, W).
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

# Which axis holds the channels in the videos of these networks, where the numbers do not tell.
_VIDEOS = {
    1: (
        "AllegroTransformer3D",
        "CosmosTransformer3D",
        "HunyuanVideo",
        "LatteTransformer3D",
        "MochiTransformer3D",
        "SanaVideo",
        "SkyReelsV2",
        "UNet3DCondition",
        "UNetMotion",
        "WanTransformer3D",
    ),
    2: ("CogVideoXTransformer3D", "ConsisIDTransformer3D", "UNetSpatioTemporal"),
}
_CHANNELS_LAST = ("Kandinsky5Transformer3D", "Kandinsky6Transformer3D")

# What Flux and those like it tell the function that packs their latents.
_PACKED = ["latents", "batch_size", "num_channels_latents", "height", "width"]

Unpack = Callable[[Any], Any]  # from what is stepped to images or videos


def image_layout(pipeline: Any, denoiser: Any, arguments: dict[str, Any], stepped: Any, last: bool = False) -> Unpack:
    """Return how to read images in what the scheduler of a pipeline steps.

    arguments: those of the denoiser's call; tokens say in them where they stand.
    stepped: shape (N, C, H, W), a video of five axes, or tokens (N, T, D).
    last: whether these are the last tokens that the denoiser sees, behind those of references, and not the first.
    Raises ValueError for anything else, such as sound or embeddings, and for a layout that the pipeline does not show.
    """
    if getattr(pipeline, "vocoder", None) is not None:
        raise ValueError(f"{type(pipeline).__name__} makes sound, whose spectrogram has no resolutions of an image")
    match stepped.ndim:
        case 4:
            unpatch = getattr(pipeline, "_unpatchify_latents", None)
            if unpatch is not None and stepped.shape[1] == 4 * (latent_channels(pipeline) or 0):
                return unpatch
            return lambda x: x
        case 5:
            channels = _channel_axis(pipeline, denoiser, stepped)
            return lambda x: x.movedim(channels, 2)
        case 3:
            return _token_layout(pipeline, denoiser, arguments, stepped, last)
    raise ValueError(
        f"images, videos or their tokens are needed, of 3 to 5 axes; {type(pipeline).__name__} steps the shape "
        f"{tuple(stepped.shape)}"
    )


def latent_channels(pipeline: Any) -> int | None:
    """Return the number of channels of a pipeline's latents, as its autoencoder says it; None without one."""
    config = getattr(getattr(pipeline, "vae", None), "config", None) or {}
    stated = (config.get(name) for name in ("latent_channels", "z_dim"))
    return next((each for each in stated if isinstance(each, int)), None)


def _channel_axis(pipeline: Any, denoiser: Any, stepped: Any) -> int:
    """Return which axis of a video holds its channels: first, after the frames, or last."""
    name, network = type(denoiser).__name__, getattr(denoiser, "config", None) or {}
    if name.startswith(_CHANNELS_LAST):
        return 4
    for channels in (latent_channels(pipeline), network.get("out_channels"), network.get("in_channels")):
        axes = [axis for axis in (1, 2) if stepped.shape[axis] == channels]
        if axes:
            break
    if len(axes) > 1:  # as many frames as channels
        axes = [axis for axis, names in _VIDEOS.items() if name.startswith(names)]
    if len(axes) != 1:
        raise ValueError(
            f"which axis of a video holds its channels cannot be told for {type(pipeline).__name__}, which steps the "
            f"shape {tuple(stepped.shape)}; another number of frames, or another size, may tell them apart"
        )
    return axes[0]


def _token_layout(pipeline: Any, denoiser: Any, arguments: dict[str, Any], stepped: Any, last: bool) -> Unpack:
    """Return how to unpack tokens (N, T, D): the pipeline packs an image of numbered pixels, which is then undone."""
    import torch

    _, count, width = stepped.shape
    grid = _grid(arguments, count, last)
    if grid is None:
        raise ValueError(
            f"{type(pipeline).__name__} does not tell its denoiser where its {count} tokens stand, so that they cannot "
            "be read as an image"
        )
    for shape, pack in _packings(pipeline, denoiser, grid, width):
        if math.prod(shape) != count * width:
            continue  # tokens of another width
        packed = pack(torch.arange(count * width, dtype=torch.float64).reshape(shape))
        if packed.shape == (1, count, width):
            finish = getattr(pipeline, "_unpatchify_latents", None) if len(shape) == 4 else None
            return functools.partial(_unpacked, torch.argsort(packed.flatten().long()), shape, finish)
    raise ValueError(f"how {type(pipeline).__name__} packs its {count} tokens of {width} numbers cannot be told")


def _unpacked(places: Any, shape: tuple[int, ...], finish: Unpack | None, tokens: Any) -> Any:
    """Return the images whose pixels stand at `places` in the tokens; `finish` lays out patches made before packing."""
    images = tokens.flatten(1)[:, places.to(tokens.device)].reshape(len(tokens), *shape[1:])
    images = images if finish is None else finish(images)
    return images.movedim(1, 2) if images.ndim == 5 else images


def _grid(arguments: dict[str, Any], count: int, last: bool) -> tuple[int, int, int] | None:
    """Return the frames, rows and columns of `count` tokens, from what the denoiser is told of them."""
    ids, shapes = arguments.get("img_ids"), arguments.get("img_shapes")
    if ids is not None:
        ids = ids if ids.ndim == 2 else ids[0]
        places = (ids[-count:] if last else ids[:count])[:, 1:3].long().cpu()
        rows, columns = (int(places[:, axis].max() - places[:, axis].min()) + 1 for axis in (0, 1))
        steps = places - places[0]
        in_order = (steps[:, 0] * columns + steps[:, 1]).tolist() == list(range(count))
        return (1, rows, columns) if in_order else None
    if shapes is None:
        shapes = [arguments.get(name) for name in ("num_frames", "height", "width")]
    grids = [grid for grid in _triples(shapes) if math.prod(grid) == count]
    return grids[-1 if last else 0] if grids else None


def _triples(shapes: Any) -> Iterator[tuple[int, int, int]]:
    """Yield the frames, rows and columns of every picture in nested lists of them."""
    if len(shapes) == 3 and all(isinstance(each, int) for each in shapes):
        yield tuple(shapes)
    else:
        for each in shapes:
            if isinstance(each, (list, tuple)):
                yield from _triples(each)


def _packings(
    pipeline: Any, denoiser: Any, grid: tuple[int, int, int], width: int
) -> list[tuple[tuple[int, ...], Callable[[Any], Any]]]:
    """Return the ways in which a pipeline may pack an image of a grid: the shape before, and the function."""
    frames, rows, columns = grid
    found: list[tuple[tuple[int, ...], Callable[[Any], Any]]] = []
    config = getattr(denoiser, "config", None) or {}
    channels = latent_channels(pipeline)
    for name in ("_pack_latents_no_patch", "_pack_latents"):
        pack = getattr(pipeline, name, None)
        if pack is None:
            continue
        takes = list(inspect.signature(pack).parameters)
        shape: tuple[int, ...]
        if takes == ["latents"]:  # of patches that were made before
            found.append(((1, width, rows, columns), pack))
        elif takes == ["latents", "patch_size", "patch_size_t"]:
            patch, patch_t = config.get("patch_size", 1), config.get("patch_size_t", 1)
            shape = (1, width // (patch**2 * patch_t), frames * patch_t, rows * patch, columns * patch)
            found.append((shape, functools.partial(pack, patch_size=patch, patch_size_t=patch_t)))
        elif takes[:5] == _PACKED and takes[5:] in ([], ["patch_size"]) and frames == 1:
            for patch in (1, 2):
                shape = (1, width // patch**2, rows * patch, columns * patch)
                if channels in (None, shape[1]):  # where there is an autoencoder, one of the two is what it makes
                    more = {"patch_size": patch} if takes[5:] else {}
                    sizes = dict(zip(takes[1:5], shape, strict=True))
                    found.append((shape, functools.partial(pack, **sizes, **more)))
    return found
