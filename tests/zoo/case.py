"""What one pipeline of diffusers is: how a tiny one is built and called, and what is true of its denoiser."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tiny import seeded

Size = tuple[int, int]
TEXT = 8

# Every case is measured in these ways: guided, another size, images, steps.
VARIATIONS: dict[str, tuple[bool, bool, int, int]] = {
    "default": (True, False, 1, 2),
    "guidance off": (False, False, 1, 2),
    "other size": (True, True, 1, 2),
    "four images": (True, False, 4, 2),
    "four steps": (True, False, 1, 4),
}


@dataclass(frozen=True)
class Case:
    """One pipeline class, with tiny random weights, and what its source says about it.

    build: makes the pipeline.
    arguments: makes the keyword arguments of a call from `guided`, `size`, `images` and `steps`.
    size, other: pixels (height, width) of the default run and of the other size.
    branches, unguided: the predictions of one step in the order of rows, with guidance and without.
    at_times: the predictions of those guided steps that have fewer.
    together: whether the branches are rows of one batch; else each is a call of its own.
    prediction: what `sign` times the output of the network means; None for what the scheduler's settings say.
    sign: what the scheduler is given is a combination of `sign` times the outputs (of the outputs themselves where its
        own time is inverted).
    altered: in what way the scheduler is given more than a weighted sum of the outputs; empty for such a sum.
    networks: attributes that hold the denoiser, or the two that take turns.
    unpack: from (N, tokens, channels) and the pixels of the picture to (N, [frames,] C, H, W).
    last_tokens: of more tokens than are stepped the last are those; else the first are, and references stand behind.
    frames_first: a video is (N, F, C, H, W), not (N, C, F, H, W).
    channels_last: a video is (N, F, H, W, C).
    output: the tensor within what the network returns.
    doubled: with guidance the scheduler steps every image twice; the first half counts.
    folded: the scheduler steps frames as if they were images, (N F, C, H, W).
    refused: why the instrument must refuse this class; empty for one it should measure.
    supports: the variations that the class can do.
    """

    build: Callable[[], Any]
    arguments: Callable[..., dict[str, Any]]
    size: Size = (16, 16)
    other: Size = (24, 40)
    branches: tuple[str, ...] = ("unconditional", "conditional")
    unguided: tuple[str, ...] = ("conditional",)
    at_times: tuple[str, ...] = ()
    together: bool = True
    prediction: str | None = None
    sign: int = 1
    altered: str = ""
    networks: tuple[str, ...] = ("unet",)
    unpack: Callable[[torch.Tensor, int, int], torch.Tensor] | None = None
    last_tokens: bool = False
    frames_first: bool = False
    channels_last: bool = False
    output: Callable[[Any], torch.Tensor] | None = None
    doubled: bool = False
    folded: bool = False
    refused: str = ""
    supports: frozenset[str] = field(default_factory=lambda: frozenset(VARIATIONS))

    def call(self, guided: bool, size: Size | None, images: int, steps: int, seed: int = 0) -> dict[str, Any]:
        """Return the keyword arguments of one call of the pipeline."""
        given = self.arguments(guided=guided, size=size or self.size, images=images, steps=steps)
        return {"generator": torch.Generator().manual_seed(seed), "num_inference_steps": steps} | given

    def variation(self, name: str, seed: int = 0) -> dict[str, Any]:
        """Return the keyword arguments of one of the VARIATIONS."""
        guided, other, images, steps = VARIATIONS[name]
        return self.call(guided, self.other if other else None, images, steps, seed)


def without(*names: str) -> frozenset[str]:
    """All variations but these."""
    assert set(names) <= set(VARIATIONS)
    return frozenset(VARIATIONS) - set(names)


def built(cls: type, **parts: Any) -> Callable[[], Any]:
    """Return a builder of a pipeline whose parts are values, or functions without arguments that make them."""

    @seeded
    def build() -> Any:
        made = {
            name: part() if callable(part) and not isinstance(part, torch.nn.Module) else part
            for name, part in parts.items()
        }
        for each in made.values():
            if isinstance(each, torch.nn.Module):
                lively(each.eval())
        return cls(**made)

    return build


def lively(module: torch.nn.Module) -> None:
    """Let a network of random weights say something, and hear its prompt.

    Weights that begin as zeros are drawn, and those of attention and of embeddings are larger than they begin.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                continue
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
            if parameter.ndim == 2 and ("attn" in name or "embed" in name):
                parameter.mul_(3)


def calls(
    *,
    images: str | None = "num_images_per_prompt",
    sized: bool = True,
    latent: bool = True,
    scale: str = "guidance_scale",
    on: float = 4.0,
    off: float = 1.0,
    text: Callable[..., dict[str, Any]] | None = None,
    more: Callable[..., Mapping[str, Any]] | Mapping[str, Any] | None = None,
) -> Callable[..., dict[str, Any]]:
    """Return the usual way to turn a variation into keyword arguments.

    images, scale: the names of the arguments that count images and that scale guidance, with its values; "repeat" says
        the same text of every image instead.
    sized: whether the class takes `height` and `width`; latent: whether it can return latents.
    text, more: further arguments; functions are given the variation.
    """

    def arguments(*, guided: bool, size: Size, images: int, steps: int) -> dict[str, Any]:
        how = {"guided": guided, "size": size, "images": images, "steps": steps}
        given: dict[str, Any] = {counted: images} if counted and counted != "repeat" else {}
        if sized:
            given |= {"height": size[0], "width": size[1]}
        if latent:
            given["output_type"] = "latent"
        if scale:
            given[scale] = on if guided else off
        said = text(**how) if text else {}
        if counted == "repeat":
            said = {name: value.repeat(images, *[1] * (value.ndim - 1)) for name, value in said.items()}
        given |= said
        given |= more(**how) if callable(more) else more or {}
        return given

    counted = images
    return arguments


def words(seed: int, length: int = 4, width: int = TEXT, dims: int = 3) -> torch.Tensor:
    """Return what a text encoder might say of one text."""
    shape = (1, length, width)[3 - dims :] if dims == 3 else (1, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(size: Size, channels: int = 3, seed: int = 9) -> torch.Tensor:
    """Return a picture with values in [0, 1], shape (1, C, H, W)."""
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(seed))


def embeds(
    masked: str = "",
    pooled: bool = False,
    length: int = 4,
    width: int = TEXT,
    negative: bool = True,
    always: bool = False,
    dtype: Any = torch.long,
) -> Callable[..., dict[str, Any]]:
    """Return texts as the classes take them that take `prompt_embeds`.

    masked: the name of the attention mask of the prompt; pooled: one vector more; negative: whether the class takes a
    negative prompt, which it is told when guided, or `always`.
    """

    def text(*, guided: bool, **_: Any) -> dict[str, Any]:
        given = {"prompt_embeds": words(1, length, width)}
        if pooled:
            given["pooled_prompt_embeds"] = words(3, 1, width)[:, 0]
        if masked:
            given[masked] = torch.ones(1, length, dtype=dtype)
        if negative and (guided or always):
            given |= {
                f"negative_{name}": value if name == masked else words(7 + index, length, width)[: value.shape[0]]
                for index, (name, value) in enumerate(given.items())
            }
            if pooled:
                given["negative_pooled_prompt_embeds"] = words(8, 1, width)[:, 0]
        return given

    return text
