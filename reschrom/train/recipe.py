"""A training recipe: every choice that fixes a model, read from one YAML file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from reschrom._extras import naming_extra
from reschrom._files import shipped
from reschrom.images.pictures import Picture
from reschrom.train.styles import STYLES

# What a network learns to predict, and from what.
KINDS = {
    "t2i": "the noise, from a noised picture and its caption",
    "image": "the noise, from a noised picture alone",
    "residual": "the noise less its own 2x2 averages, from a noised picture alone (Eqs. 21, 23)",
    "dvdp": "the noise, from a noised picture alone that is halved at turning points",
}

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False))
class Recipe:
    """Everything that decides what `train` makes, apart from the images.

    kind: what the network predicts, one of `KINDS`.
    contents: what the pictures show, each with its article: "a grand piano".
    pieces: pictures made for each content and style; photographs of rare contents are cut more than once.
    every_style: whether all of `STYLES` are shown where no caption tells them, as t2i shows them, or photographs only.
    size: pixels along one side of what the network sees.
    level: how often pictures of `size * 2^level` pixels are halved, by averages of 2x2 pixels, to become so small.
    channels: of the denoiser's blocks, from full resolution down; the last `attentive` blocks look at the text, or
        without one at the whole picture.
    text_width, text_layers: of the T5 encoder of t2i, which is trained together with the denoiser.
    steps, batch: optimiser steps, and pictures in each, over all processes.
    learning_rate: reached after `warmup` steps and left, in a straight line to zero, over the last `cooldown` share.
    ema: decay of the averaged weights, which are the ones that are kept.
    unconditional: share of pictures whose caption t2i leaves out, so that guidance has something to compare with.
    snr_limit, alpha_floor: weights of the loss, see `loss_weight`.
    schedule: "cosine", or the file of a spectrum (`reschrom spectrum`) for which the noise schedule is designed, with
        equal time for every resolution band.
    turning_points, attenuation, treatment: of dvdp, see `AttenuatedProcess`; turning points are timesteps. The batch is
        that of full resolution and doubles with every halving.
    precision: "no" (float32) or "bf16".
    seed: fixes pictures, first weights, batches and noise.
    """

    contents: Annotated[tuple[str, ...], Field(min_length=1)]
    kind: Literal["t2i", "image", "residual", "dvdp"] = "t2i"
    pieces: Count = 400
    every_style: bool = False
    size: Annotated[int, Field(ge=2)] = 64
    level: Annotated[int, Field(ge=0)] = 0
    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32, 64, 128, 152)
    attentive: Annotated[int, Field(ge=0)] = 2
    text_width: Count = 128
    text_layers: Count = 2
    steps: Count = 6000
    batch: Annotated[int, Field(ge=1, le=2**20)] = 32
    learning_rate: Positive = 8e-4
    warmup: Annotated[int, Field(ge=0)] = 200
    cooldown: Share = 0.25
    ema: Share = 0.999
    unconditional: Share = 0.1
    snr_limit: Positive = 5.0
    alpha_floor: Share = 0.01
    schedule: str = "cosine"
    turning_points: tuple[Annotated[int, Field(ge=0)], ...] = (300, 611)
    attenuation: Share = 0.18
    treatment: Literal["continue", "preserve"] = "continue"
    precision: Literal["no", "bf16"] = "bf16"
    seed: Annotated[int, Field(ge=0)] = 0

    @classmethod
    @naming_extra("Recipe.load", "train")
    def load(cls, path: str | Path, **overrides: Any) -> "Recipe":
        """Read a recipe from a YAML file, with some of its settings replaced.

        Raises ValueError that names the file and the setting for anything that is no recipe.
        """
        import yaml

        try:
            content = yaml.safe_load(shipped(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold one setting a line; got {content!r}")
        content = {**content, **overrides}
        known = [field.name for field in fields(cls)]
        for name in content:
            if name not in known:
                raise ValueError(f"{path} sets {name!r}, which a recipe does not have; it has {', '.join(known)}")
        if "contents" not in content:
            raise ValueError(f"{path} must say the contents of the pictures")
        try:
            return cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Return the recipe of what `as_dict` returned; settings that are not there have their usual value.

        Raises ValueError, naming the setting, for a value of another type or out of range.
        """
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        try:
            return cls(**plain)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ValueError(f"{wrong['loc'][0]} of a recipe: {wrong['msg']}; got {wrong['input']!r}") from None

    @property
    def styles(self) -> dict[str, Callable[[Picture, np.random.Generator], Picture]]:
        """The ways in which pictures are shown: all of `STYLES` where captions tell them or the recipe says so."""
        return dict(STYLES if self.kind == "t2i" or self.every_style else list(STYLES.items())[:1])

    @property
    def captions(self) -> list[str]:
        """Every caption: style by style, and within a style content by content."""
        return [f"{style} {content}" for style in self.styles for content in self.contents]

    @property
    def picture_size(self) -> int:
        """Pixels along one side of a picture before it is halved."""
        return self.size << self.level

    def as_dict(self) -> dict[str, Any]:
        """Return the settings in plain types, as a YAML or JSON file holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
