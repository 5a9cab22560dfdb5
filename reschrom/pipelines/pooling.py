"""What a network is shown in the place of an image when the image is pooled, and its answer as an image again.

Latents (N, C, H, W) are pooled as they are. Tokens are laid out as images first, pooled, and packed as the pipeline
itself packs a smaller image; the places that the network is told of them become those of the smaller image.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from reschrom.pipelines.geometry import image_layout
from reschrom.pipelines.texts import tensors_in

# Arguments that hold something for each token of the image, in a form of the class's own; the last with tokens alone.
_BY_TOKEN = ("image_rotary_emb", "freqs_cis", "img_mask", "attention_mask")


class Pooling(NamedTuple):
    """How one call of a network becomes a call with a smaller image.

    image: what it is shown, as images (N, C, H, W).
    told: its other arguments, those of the smaller image.
    pack: makes of smaller images what the network is shown.
    unpack_small: makes images of a prediction of the small size.
    pack_large: makes of images a prediction of the large size.
    """

    image: Any
    told: dict[str, Any]
    pack: Callable[[Any], Any]
    unpack_small: Callable[[Any], Any]
    pack_large: Callable[[Any], Any]


def pooling(pipeline: Any, denoiser: Any, shown: Any, told: dict[str, Any], level: int) -> Pooling:
    """Return how a call of a network becomes one with the image halved `level` times.

    shown: latents (N, C, H, W) or tokens (N, T, D).
    told: the other arguments by their names.
    Raises ValueError in one line for a video, for other inputs that have the size of the image, and for sides that do
    not halve so often.
    """
    name = type(pipeline).__name__
    if not hasattr(shown, "ndim") or shown.ndim not in (3, 4):
        raise ValueError(
            f"CoarseFirst needs a network that is shown images (N, C, H, W) or their tokens; {name} shows it "
            f"{f'the shape {tuple(shown.shape)}' if hasattr(shown, 'shape') else type(shown).__name__}"
        )
    by_token = _BY_TOKEN if shown.ndim == 3 else _BY_TOKEN[:-1]
    if any(told.get(each) is not None for each in by_token) or any(x.ndim > 3 for x in tensors_in(told)):
        raise ValueError(f"CoarseFirst cannot halve what {name} shows its network besides the image")
    if shown.ndim == 4:
        if hasattr(pipeline, "_unpatchify_latents"):
            raise ValueError(f"CoarseFirst cannot halve the latents of {name}, which hold patches in their channels")
        return Pooling(_halving(shown, level), told, _same, _same, _same)
    large = image_layout(pipeline, denoiser, told, shown)
    image = _halving(large(shown), level)
    small_told = _smaller(pipeline, told, shown.shape[1], level)
    packed = shown[:1, : shown.shape[1] >> 2 * level]
    small = image_layout(pipeline, denoiser, small_told, packed)
    return Pooling(image, small_told, _packing(small, packed), small, _packing(large, shown[:1]))


def _same(x: Any) -> Any:
    return x


def _halving(image: Any, level: int) -> Any:
    """Return images, after checking that their sides halve so often."""
    if image.ndim != 4:
        raise ValueError(f"CoarseFirst halves images; videos, such as of the shape {tuple(image.shape)}, stay as is")
    height, width = image.shape[-2:]
    if height % 2**level or width % 2**level:
        raise ValueError(f"level {level} needs sides that are multiples of {2**level}; got latents of {height}x{width}")
    return image


def _packing(unpack: Callable[[Any], Any], like: Any) -> Callable[[Any], Any]:
    """Return the inverse of a layout of tokens, found by laying out their numbers."""
    import torch

    _, count, width = like.shape
    numbers = torch.arange(count * width, dtype=torch.float64).reshape(1, count, width)
    places = unpack(numbers).flatten().long()

    def pack(images: Any) -> Any:
        tokens = torch.empty(len(images), count * width, dtype=images.dtype, device=images.device)
        tokens[:, places.to(images.device)] = images.flatten(1)
        return tokens.reshape(len(images), count, width)

    return pack


def _smaller(pipeline: Any, told: dict[str, Any], count: int, level: int) -> dict[str, Any]:
    """Return arguments that say where the tokens of an image stand, for the same image halved."""
    ids, shapes = told.get("img_ids"), told.get("img_shapes")
    if ids is not None:
        rows = int(ids[..., 1].max() - ids[..., 1].min()) + 1
        columns = count // rows
        grid = ids.unflatten(-2, (rows, columns))[..., : rows >> level, : columns >> level, :]
        small: dict[str, Any] = {"img_ids": grid.flatten(-3, -2)}
    elif shapes is not None:
        small, (rows, columns) = {"img_shapes": _halved(shapes, level)}, _only_grid(shapes, count)
    else:
        raise ValueError(f"CoarseFirst cannot tell the network of {type(pipeline).__name__} where fewer tokens stand")
    if rows % 2**level or columns % 2**level:
        raise ValueError(f"level {level} needs tokens in multiples of {2**level}; got {rows}x{columns}")
    return told | small


def _halved(shapes: Any, level: int) -> Any:
    """Return nested lists of (frames, rows, columns) with rows and columns halved."""
    if len(shapes) == 3 and all(isinstance(each, int) for each in shapes):
        frames, rows, columns = shapes
        return type(shapes)((frames, rows >> level, columns >> level))
    return [_halved(each, level) for each in shapes]


def _only_grid(shapes: Any, count: int) -> tuple[int, int]:
    """Return the rows and columns of the one image that every nested list holds, else ValueError."""
    import torch

    grids = torch.tensor(shapes).reshape(-1, 3).unique(dim=0).tolist()
    if len(grids) != 1 or grids[0][0] != 1 or grids[0][1] * grids[0][2] != count:
        raise ValueError(f"CoarseFirst halves one image of {count} tokens; got the grids {grids}")
    return grids[0][1], grids[0][2]
