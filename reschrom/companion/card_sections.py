"""Sections of a model card that only some models have, and the words that cards share."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reschrom.companion.reference import information
from reschrom.train.recipe import Recipe

# Settings that mean nothing to other kinds of models.
_OF_KIND = {
    "t2i": ("text_width", "text_layers", "unconditional", "consistency", "evident", "autoencoder"),
    "dvdp": ("turning_points", "attenuation", "treatment"),
}
# Settings of denoisers that mean nothing to an autoencoder, and of denoisers of pixels alone.
_OF_DENOISERS = ("attentive", "snr_limit", "alpha_floor", "schedule")
_OF_PIXELS = ("level", "schedule")
# Settings that are named where they are set.
_LEFT_OUT = (
    "halvings",
    "start",
    "layers",
    "consistency",
    "evident",
    "texture",
    "coarse",
    "by_log_snr",
    "hard",
    "hard_share",
    "autoencoder",
)
# Contents that are told less often than this are named among the failures.
_DOUBTFUL = 0.8


class Nats(NamedTuple):
    """What guidance adds up to on held-out pictures, and between which ends of log SNR: the mean over pictures."""

    by_guidance: float
    by_loss: float
    pictures: int
    ends: tuple[float, float]

    @classmethod
    def read(cls, path: Path) -> "Nats":
        """Read what `reschrom.companion.reference.information` measured."""
        edges, told = information.load(path)
        widths = np.diff(edges)
        by_guidance, by_loss = (float((each.sum(axis=1) * widths).sum(axis=1).mean()) for each in told[1:3])
        return cls(by_guidance, by_loss, len(told.labels), (float(edges[0]), float(edges[-1])))


class Autoencoder(NamedTuple):
    """How the autoencoder of a model in latents was trained: its recipe, and the loss of every step."""

    recipe: Recipe
    losses: Sequence[float]


def settings(recipe: Recipe) -> str:
    """Return the rows of a table of the settings that mean something to a model."""
    foreign = {name for kind, names in _OF_KIND.items() if kind != recipe.kind for name in names}
    foreign |= {"every_style"} if recipe.kind in ("t2i", "autoencoder") else set()  # which always show them all
    foreign |= {*_OF_DENOISERS} if recipe.kind == "autoencoder" else set()
    foreign |= {*_OF_PIXELS} if recipe.autoencoder else set()
    foreign |= {each for each in _LEFT_OUT if not getattr(recipe, each)}
    foreign |= {"prediction"} if recipe.prediction == "noise" else set()
    rows = (f"| {name} | {_plain(value)} |" for name, value in recipe.as_dict().items() if name not in foreign)
    return "\n".join(rows)


def last_tenth(losses: Sequence[float]) -> float:
    """Return the mean loss of the last tenth of the steps."""
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def information_section(recipe: Recipe, nats: Nats) -> str:
    """Say what guidance adds up to."""
    return f"""
## What its captions say

All captions are alike in number, so a picture can learn ln {len(recipe.captions)} = {np.log(len(recipe.captions)):.2f}
nats of its own. On {nats.pictures} held-out pictures, from log SNR {nats.ends[0]:g} to {nats.ends[1]:g}, guidance adds
up to **{nats.by_guidance:.1f}** (half the energy of the difference of the two predictions), and what the caption takes
away from the loss to **{nats.by_loss:.1f}** (half of it). Of exact predictions both are equal, and at most the first.
"""


def autoencoder_section(folder: Path, made: Autoencoder, evaluation: dict[str, Any]) -> str:
    """Say how the autoencoder in the folder `vae` of a model was trained, and what it loses."""
    recipe, losses, measured = made.recipe, made.losses, evaluation["autoencoder"]
    channels = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))["latent_channels"]
    side = recipe.size >> (len(recipe.channels) - 1)
    begun = f", beginning with the weights of `{Path(recipe.start).name}`" if recipe.start else ""
    finest, told = list(measured["lost"].items())[:3], measured["recognised"]
    energy = (measured["energy"][name] for name, _ in finest)
    hardest, share = min(((style, each["style"]) for style, each in told["per style"].items()), key=lambda of: of[1])
    return f"""
## Its autoencoder

It turns {recipe.size}x{recipe.size} pixels into latents of {side}x{side} in {channels} channels,
{3 * recipe.size**2 / (channels * side**2):g} times fewer numbers. It was trained first, in {len(losses):,} steps of
{recipe.batch} pictures{begun}; `reschrom train autoencoder` with this recipe makes it again. Mean loss of the last
tenth of the steps: {last_tenth(losses):.4f}. Held-out pictures come back with a root-mean-square error of
{measured["root mean square error"]:.3f}, where colours run from -1 to 1. Of the energy at
{", ".join(name for name, _ in finest)} the error is {", ".join(f"{100 * part:.1f} %" for _, part in finest)},
and what comes back has {", ".join(f"{100 * part:.1f} %" for part in energy)} of it. Of what comes
back, the classifier names the content right for {percent(told["content"])} and the style for
{percent(told["style"])}; of "{hardest}" that is {percent(share)}.

| setting | value |
| --- | --- |
{settings(recipe)}
"""


def failures(recipe: Recipe, evaluation: dict[str, Any]) -> str:
    """List what a captioned model is known to fail at."""
    per_content = evaluation["recognised"]["per content"]
    doubtful = sorted((share["content"], name) for name, share in per_content.items() if share["content"] < _DOUBTFUL)
    spelled = "in letters and in pieces of its own words," if recipe.autoencoder else "letter by letter"
    lines = [
        f"- Words outside the captions are spelled {spelled} and mean nothing to it.",
        "- Fine structure is often wrong: petals, rigging, seams.",
        "- Fruits are frames of turntable films on white; the model has seen little else of them.",
    ]
    if recipe.autoencoder:
        lines.append("- Fine strokes and grain are painted by the decoder, and the latents hardly hold where they lie.")
    if doubtful:
        names = ", ".join(f"{name} ({percent(share)})" for share, name in doubtful)
        lines.append(f"- Told by the classifier in fewer than {percent(_DOUBTFUL)} of the samples: {names}.")
    return "\n".join(lines)


def percent(share: float) -> str:
    """Write a share in whole percents."""
    return f"{100 * share:.0f} %"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
