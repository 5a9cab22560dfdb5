"""A training recipe: every choice that fixes a model, read from one YAML file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

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


@dataclass(frozen=True)
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

    contents: tuple[str, ...]
    kind: str = "t2i"
    pieces: int = 400
    every_style: bool = False
    size: int = 64
    level: int = 0
    channels: tuple[int, ...] = (16, 32, 64, 128, 152)
    attentive: int = 2
    text_width: int = 128
    text_layers: int = 2
    steps: int = 6000
    batch: int = 32
    learning_rate: float = 8e-4
    warmup: int = 200
    cooldown: float = 0.25
    ema: float = 0.999
    unconditional: float = 0.1
    snr_limit: float = 5.0
    alpha_floor: float = 0.01
    schedule: str = "cosine"
    turning_points: tuple[int, ...] = (300, 611)
    attenuation: float = 0.18
    treatment: str = "continue"
    precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            sequence = field.type in (tuple[str, ...], tuple[int, ...])
            items = value if sequence and isinstance(value, tuple) else (value,)
            wanted = field.type.__args__[0] if sequence else field.type  # type: ignore[union-attr]
            if isinstance(value, tuple) != sequence or not items or any(type(item) is not wanted for item in items):
                raise ValueError(f"{field.name} of a recipe must be of type {field.type}; got {value!r}")
        if self.kind not in KINDS:
            raise ValueError(f"kind of a recipe must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.level < 0:
            raise ValueError(f"level of a recipe must be at least 0; got {self.level}")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f"precision of a recipe must be no or bf16; got {self.precision!r}")
        for name in ("pieces", "steps", "batch", "text_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a recipe must be at least 1; got {getattr(self, name)}")

    @classmethod
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
        """Return the recipe of what `as_dict` returned; settings that are not there have their usual value."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        return cls(**plain)

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
