"""A training recipe: every choice that fixes a model, read from one YAML file."""

import functools
import itertools
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from reschrom._extras import naming_extra
from reschrom._files import shipped
from reschrom.images.pictures import Picture
from reschrom.train.styles import STYLES

# What a network learns to predict, and from what.
KINDS = {
    "t2i": "the noise, from a noised picture and its caption",
    "autoencoder": "the picture, from latents that hold fewer numbers",
    "image": "the noise, from a noised picture alone",
    "residual": "the noise less its own 2x2 averages, from a noised picture alone (Eqs. 21, 23)",
    "dvdp": "the noise, from a noised picture alone that is halved at turning points",
}

WINDOW = 8  # pixels along one side of the windows whose spectra tell a texture; half of it is between two

T = TypeVar("T")
Share = Annotated[float, Field(ge=0, le=1)]
# Beyond these no network is small, and no picture that it learns from.
Width = Annotated[int, Field(ge=1, le=2048)]
_LARGEST_PICTURE = 4096
_MOST_STEPS = 9_999_999  # the names of checkpoints have seven digits
_LONGEST_FILE = 2**20  # bytes
_SHORTENED = reprlib.Repr()  # of whatever a file holds
_SHORTENED.maxlevel = 2


def _in_one_line(cls: type[T]) -> type[T]:
    """Make a class of pydantic say in one line which setting is wrong, of several the first."""
    construct: Any = cls.__init__

    @functools.wraps(construct)
    def constructed(self: T, *values: Any, **settings: Any) -> None:
        try:
            construct(self, *values, **settings)
        except ValidationError as error:
            wrong = error.errors()[0]
            if wrong["type"] == "value_error":  # of settings that do not fit together
                raise ValueError(str(wrong["ctx"]["error"])) from None
            got = _SHORTENED.repr(wrong["input"])
            raise ValueError(f"{wrong['loc'][0]} of a recipe: {wrong['msg']}; got {got}") from None

    cls.__init__ = constructed  # type: ignore[assignment]
    return cls


@_in_one_line
@dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False, extra="forbid"))
class Recipe:
    """Everything that decides what `train` makes, apart from the images.

    kind: what the network predicts, one of `KINDS`.
    contents: what the pictures show, each with its article: "a grand piano".
    pieces: pictures made for each content and style; photographs of rare contents are cut more than once.
    every_style: whether all of `STYLES` are shown where no caption tells them, as t2i shows them, or photographs only.
    size: pixels along one side of what the network sees.
    level: how often pictures of `size * 2^level` pixels are halved, by averages of 2x2 pixels, to become so small.
    halvings: how many times smaller the network also sees its pictures, each size in as many steps, at the times that
        match those of the full size (Eq. 16). The batch is that of full size and doubles with every halving. Not of
        residual or dvdp.
    start: the folder of a trained model of the same network, whose weights training begins with; "" for random ones.
        Of t2i, where the embeddings of words that both know are taken over, too, of image, and of autoencoder, whose
        encoder then stays as it is, so that models of its latents keep their meaning.
    channels: of the denoiser's blocks, from full resolution down; the last `attentive` blocks look at the text, or
        without one at the whole picture.
    layers: residual layers of each block on the way down, of which there is one more on the way up; () for one in each.
        Blocks of none at full resolution are a cheap way to see pixels: the first convolution, and one layer to draw.
    prediction: what the network's output means: "noise", or "velocity", sqrt(alpha) noise - sqrt(1 - alpha) picture,
        with which it says the picture itself where there is only noise. Of t2i and image.
    text_width, text_layers: of the text encoder of t2i, which is trained together with the denoiser.
    autoencoder: the folder of a trained one, in whose latents t2i draws, as Stable Diffusion does, with a CLIP text
        encoder and on its noise schedule; "" for pixels and a T5 encoder, as DeepFloyd IF.
    steps, batch: optimiser steps, and pictures in each, over all processes.
    learning_rate: reached after `warmup` steps and left, in a straight line to zero, over the last `cooldown` share.
    ema: decay of the averaged weights, which are the ones that are kept.
    unconditional: share of pictures whose caption t2i leaves out, so that guidance has something to compare with.
    consistency: weight of a term of those pictures, of t2i: the squared distance of their noise from the one that the
        network itself predicts with their caption, every step of log SNR counting alike. What is least in it is the
        mean of those predictions over the captions that a noised picture may have, which is what the prediction without
        a caption should be; half of it, summed over pixels and log SNR, is what guidance adds up to in nats.
    evident: log SNR from which on a picture tells its caption by itself, of t2i. There the two predictions should be
        one, so the term moves both; below it moves only the one without a caption. The default is nowhere.
    texture: of autoencoder: weight of how far the local spectra of what it returns are from those of the picture, in
        windows of 8 pixels, beside the error of its pixels. With 0 it returns blur instead of strokes in a wrong place.
    snr_limit, alpha_floor: weights of the loss, see `loss_weight`.
    coarse: weight of the same loss of every coarser resolution, of t2i and image. The error of the noise is averaged
        over squares of 2x2, 4x4 ... pixels and taken in units of the noise that is left there; it has the weight of the
        time that matches (Eq. 16). With 0 the colour of a whole picture is three numbers in thousands.
    by_log_snr: share of pictures, of t2i and image, whose time is drawn with every step of log SNR from -9 to 7 alike,
        not every timestep. Of the cosine schedule one timestep in twenty is noisier than log SNR -5, and that is where
        colour and layout begin.
    hard: captions, of t2i, that are drawn more often, because what they show is more varied.
    hard_share: share of the pictures with a caption that is kept for these. Where the caption is left out all captions
        stay as likely.
    schedule: "cosine", or the file of a spectrum (`reschrom spectrum`) for which the noise schedule is designed, with
        equal time for every resolution band.
    turning_points, attenuation, treatment: of dvdp, see `AttenuatedProcess`; turning points are timesteps. The batch is
        that of full resolution and doubles with every halving.
    precision: "no" (float32) or "bf16", or "auto" for the faster of the two, which is measured on the machine when a
        training begins; its checkpoints say which it was.
    seed: fixes pictures, first weights, batches and noise.

    Raises ValueError, naming the setting, for a value of another type or out of range, and for settings that do not
    fit together.
    """

    contents: Annotated[tuple[str, ...], Field(min_length=1)]
    kind: Literal["t2i", "autoencoder", "image", "residual", "dvdp"] = "t2i"
    pieces: Annotated[int, Field(ge=1, le=2**20)] = 400
    every_style: bool = False
    size: Annotated[int, Field(ge=2, le=_LARGEST_PICTURE)] = 64
    level: Annotated[int, Field(ge=0, le=_LARGEST_PICTURE.bit_length())] = 0
    halvings: Annotated[int, Field(ge=0, le=_LARGEST_PICTURE.bit_length())] = 0
    start: str = ""
    channels: Annotated[tuple[Width, ...], Field(min_length=1)] = (16, 32, 64, 128, 152)
    attentive: Annotated[int, Field(ge=0)] = 2
    layers: tuple[Annotated[int, Field(ge=0, le=64)], ...] = ()
    prediction: Literal["noise", "velocity"] = "noise"
    text_width: Annotated[Width, Field(multiple_of=4)] = 128  # the heads of its attention
    text_layers: Annotated[int, Field(ge=1, le=64)] = 2
    autoencoder: str = ""
    steps: Annotated[int, Field(ge=1, le=_MOST_STEPS)] = 6000
    batch: Annotated[int, Field(ge=1, le=2**20)] = 32
    learning_rate: Annotated[float, Field(gt=0, le=1e30)] = 8e-4  # float32 holds a step of AdamW
    warmup: Annotated[int, Field(ge=0, le=_MOST_STEPS)] = 200
    cooldown: Share = 0.25
    ema: Share = 0.999
    unconditional: Share = 0.1
    consistency: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    evident: Annotated[float, Field(ge=-20, le=20)] = 20.0  # beyond the ends of every schedule
    texture: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    snr_limit: Annotated[float, Field(gt=0, le=1e12)] = 5.0  # float32 holds it over the smallest alpha
    alpha_floor: Share = 0.01
    coarse: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    by_log_snr: Annotated[float, Field(ge=0, lt=1)] = 0.0  # no time is left out
    hard: tuple[str, ...] = ()
    hard_share: Annotated[float, Field(ge=0, lt=1)] = 0.0  # no caption is left out
    schedule: Annotated[str, Field(min_length=1)] = "cosine"
    # Samples of a training run start at timestep 950, which must lie in the last stage.
    turning_points: tuple[Annotated[int, Field(ge=1, le=950)], ...] = (300, 611)
    attenuation: Annotated[float, Field(gt=0, le=1)] = 0.18
    treatment: Literal["continue", "preserve"] = "continue"
    precision: Literal["auto", "no", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0

    @model_validator(mode="after")
    def _fit_together(self) -> "Recipe":
        for content in self.contents:
            if not content.strip() or not content.isprintable():
                raise ValueError(f"contents of a recipe must be words that can be printed; got {content!r}")
        for content, times in Counter(" ".join(content.split()) for content in self.contents).items():
            if times > 1:
                raise ValueError(f"contents of a recipe must differ; got {content!r} {times} times")
        for caption in self.hard:
            if caption not in self.captions:
                raise ValueError(f"hard of a recipe names captions that it has; got {caption!r}")
        if bool(self.hard) != bool(self.hard_share):
            raise ValueError(
                f"hard and hard_share of a recipe need each other; got {self.hard} and {self.hard_share:g}"
            )
        if self.picture_size > _LARGEST_PICTURE:
            raise ValueError(
                f"size and level of a recipe must ask for pictures of at most {_LARGEST_PICTURE} pixels along one "
                f"side; got {self.size} and {self.level}, which is {self.picture_size}"
            )
        if self.texture and self.size < WINDOW:
            raise ValueError(f"size of a recipe with texture must be {WINDOW} or more; got {self.size}")
        if not all(before < after for before, after in itertools.pairwise(self.turning_points)):
            raise ValueError(f"turning_points of a recipe: turning points must increase; got {self.turning_points}")
        pixels = not self.autoencoder
        usual = {field.name: field.default for field in fields(type(self))}
        for name, means_something in (
            ("level", pixels),
            ("halvings", self.kind in ("t2i", "image")),
            ("start", self.kind in ("t2i", "image", "autoencoder")),
            ("autoencoder", self.kind == "t2i"),
            ("consistency", self.kind == "t2i"),
            ("evident", self.kind == "t2i"),
            ("texture", self.kind == "autoencoder"),
            ("coarse", self.kind in ("t2i", "image")),
            ("by_log_snr", self.kind in ("t2i", "image")),
            ("hard", self.kind == "t2i"),
            ("prediction", self.kind in ("t2i", "image")),
            ("layers", self.kind != "autoencoder"),
            ("schedule", pixels and self.kind not in ("autoencoder", "dvdp")),
        ):
            if not means_something and getattr(self, name) != usual[name]:
                raise ValueError(
                    f"{name} of a recipe of {self.kind}{'' if pixels else ' in latents'} must be "
                    f"{'left out' if usual[name] == '' else usual[name]}; got {getattr(self, name)!r}"
                )
        return self

    @classmethod
    @naming_extra("Recipe.load", "train")
    def load(cls, path: str | Path, **overrides: Any) -> "Recipe":
        """Read a recipe from a YAML file, with some of its settings replaced.

        Raises ValueError that names the file and the setting for anything that is no recipe.
        """
        import yaml

        with shipped(path).open("rb") as file:
            held = file.read(_LONGEST_FILE + 1)
        if len(held) > _LONGEST_FILE:
            raise ValueError(f"{path} is no recipe: it is longer than {_LONGEST_FILE} bytes")
        try:
            loader = yaml.SafeLoader(held.decode("utf-8"))
            node = loader.get_single_node()
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            given = Counter(key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode))
            content = None if node is None else loader.construct_document(node)
        except RecursionError as error:
            raise ValueError(f"{path} is no recipe: it is nested too deeply") from error
        # Of a value that its tag or form does not fit, PyYAML says whatever Python says.
        except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold one setting a line; got {_SHORTENED.repr(content)}")
        for name, times in given.items():
            if times > 1:
                raise ValueError(f"{path} sets {name!r} {times} times; say it once")
        content = {**content, **overrides}
        known = [field.name for field in fields(cls)]
        for name in content:
            if name not in known:
                raise ValueError(
                    f"{path} sets {_SHORTENED.repr(name)}, which a recipe does not have; it has {', '.join(known)}"
                )
        if "contents" not in content:
            raise ValueError(f"{path} must say the contents of the pictures")
        try:
            return cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Return the recipe of what `as_dict` returned; settings that are not there have their usual value.

        Raises ValueError as the class itself does.
        """
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        return cls(**plain)

    @property
    def styles(self) -> dict[str, Callable[[Picture, np.random.Generator], Picture]]:
        """The ways in which pictures are shown: all of `STYLES` where captions tell them or the recipe says so."""
        return dict(STYLES if self.kind in ("t2i", "autoencoder") or self.every_style else list(STYLES.items())[:1])

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
