"""How far predictions carry: formulas fitted to six kinds of pictures, against small networks trained on the same.

`python -m reschrom.companion.reference.prediction --data FOLDER --out data/reference/prediction` fits the formulas to
each kind, trains a network on it for each seed, and measures the denoising losses of all on the same pictures held out,
with the same noise. What is there already is not made again, so a command that was stopped goes on. Each training takes
a minute or two of one core. Only losses and times are kept: no picture can be had back from them.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reschrom._arrays import Images
from reschrom._files import opened_tensors, replacing
from reschrom.companion.reference.formulas import DENOISERS, losses_of
from reschrom.denoisers.gaussian import GaussianField
from reschrom.denoisers.losses import BandLosses
from reschrom.denoisers.network import Denoiser
from reschrom.images.photographs import photograph
from reschrom.images.pictures import photographs
from reschrom.images.sources import opened
from reschrom.theory.bands import downsample
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.rates import never_rising
from reschrom.theory.schedules import Schedule

Times = Float[np.ndarray, " times"]
Varies = Float[np.ndarray, "bands 1"] | tuple[Float[np.ndarray, "bands 1"], Float[np.ndarray, "replicates bands 1"]]
SEEDS = (0, 1)
CLOCK = np.linspace(0, 1, 25)  # of the cosine schedule, at which losses are measured
_SIDE, _KNOWN, _NEW = 16, 2000, 200
_BATCH, _STEPS, _EARLY = 32, 350, 120  # of each training; it is looked at early once, too
_WIDTHS, _RATE, _EMA = (48, 64), 2e-3, 0.99
_COMPONENTS, _WINDOWS = 40, 12_000


class Pictures(NamedTuple):
    """Pictures of one kind in [-1, 1], shape (N, C, S, S): known to the denoisers, and held out.

    mirror: whether a mirror image of one is such a picture, too.
    """

    known: Images
    new: Images
    mirror: bool = True


class Measured(NamedTuple):
    """What one denoiser loses of pictures held out, finest band first, and the mean times that follow from it.

    times, replicates: as shares of the schedule's time; all replicates weigh the same pictures alike.
    noise: the error in the noise per pixel, averaged over time: what models are trained on.
    """

    losses: Float[np.ndarray, "bands times"]
    times: Float[np.ndarray, " bands"]
    replicates: Float[np.ndarray, "replicates bands"]
    noise: float


def digits(_: Path) -> Pictures:
    """Handwritten digits of scikit-learn, 8x8 pixels, grey."""
    from sklearn.datasets import load_digits

    drawn = np.random.default_rng(0).permutation(load_digits().images[:, None]) / 8 - 1
    return Pictures(drawn[_NEW:][:_KNOWN], drawn[:_NEW], mirror=False)


def _cut_from(names: Sequence[str], grey: bool, most: int) -> Callable[[Path], Pictures]:
    """Pieces of the pictures that come with scikit-image, those held out from the right quarter of each.

    most: pixels whose average is one pixel of a piece, along one side, drawn evenly from 1.
    """

    def cut(_: Path) -> Pictures:
        generator, parts = np.random.default_rng(0), []
        for right, count in ((False, _KNOWN), (True, _NEW)):
            pieces = np.empty((count, 3, _SIDE, _SIDE))
            for index in range(count):
                whole = photograph(names[index % len(names)])
                edge = whole.shape[1] * 3 // 4
                part = whole[:, edge:] if right else whole[:, :edge]
                factor = int(generator.integers(1, min(most, *(side // _SIDE for side in part.shape[:2])) + 1))
                top, left = (int(generator.integers(side - factor * _SIDE + 1)) for side in part.shape[:2])
                piece = part[top : top + factor * _SIDE, left : left + factor * _SIDE]
                blocks = piece.reshape(_SIDE, factor, _SIDE, factor, 3).mean(axis=(1, 3))
                pieces[index] = np.moveaxis(blocks, -1, 0) / 127.5 - 1
            parts.append(pieces[:, :1] if grey else pieces)
        known, new = parts
        return Pictures(known, new)

    return cut


def _read_from(file: str, wanted: Callable[[list[str]], list[str]]) -> Callable[[Path], Pictures]:
    """Pictures of some classes of a zip file, 64x64 pixels averaged to 16x16."""

    def read(data: Path) -> Pictures:
        source, both = str(data / file), []
        with opened(source) as (content_of, _):
            contents = wanted(json.loads(content_of("metadata.json"))["classes"])
        for split, most in (("train", _KNOWN), ("test", _NEW)):
            found = [each for content in contents for each in photographs(source, content, split, 4 * _SIDE)]
            chosen = np.random.default_rng(0).permutation(len(found))[:most]
            both.append(downsample(np.moveaxis(np.stack(found)[chosen], -1, 1) / 127.5 - 1, 2))
        known, new = both
        return Pictures(known, new)

    return read


# By name; those of zip files need `--data`.
KINDS: dict[str, Callable[[Path], Pictures]] = {
    "digits": digits,
    # of hoodies none is held out
    "clothing": _read_from("open-mix-64.zip", lambda classes: [*classes[18:21], *classes[22:32]]),
    "textures": _cut_from(["brick", "grass", "gravel"], True, 4),
    "faces": _read_from("caltech101-64.zip", lambda classes: ["faces"]),
    "astronomy": _cut_from(["hubble_deep_field"], False, 3),
    "tissue": _cut_from(["ihc"], False, 3),
}


def measured(losses: BandLosses, variance: Varies, numbers: int, clock: Times, precision: Any = None) -> Measured:
    """Return when a denoiser generates each band, about the mean picture, from its losses.

    variance: of each band about the mean picture, which a field loses in pure noise: shape (bands, 1); or for every
        replicate of the losses, too, as a pair.
    numbers: of a picture, pixels times channels.
    clock: times of the losses as shares of the schedule's, from the picture to noise.
    precision: of the estimates at these times; None for equal ones.
    """
    of_mean, of_each = variance if isinstance(variance, tuple) else (variance, variance)
    pairs = ((losses.mean, of_mean), (losses.replicates, of_each))
    signal, again = (
        never_rising(whole - np.minimum(lost, whole), precision) if len(lost) else lost for lost, whole in pairs
    )
    side = 2 ** (len(signal) - 1)
    rates = Chromatogram.from_signal(signal, clock, side, "")
    replicates = [Chromatogram.from_signal(each, clock, side, "").centroids() for each in again]
    alpha = Schedule.cosine().alpha(clock[1:])  # the first time is the picture itself
    noise = np.trapezoid(alpha / (1 - alpha) * losses.mean[:, 1:].sum(axis=0) / numbers, clock[1:])
    return Measured(losses.mean, rates.centroids(), np.reshape(replicates, (-1, len(signal))), float(noise))


def formulas(pictures: Pictures) -> Iterator[tuple[str, BandLosses]]:
    """Fit every formula to the pictures that are known, and yield what it loses of the new ones."""
    for name, fit in DENOISERS.items():
        posterior = fit(pictures.known, np.random.default_rng(0), _COMPONENTS, _WINDOWS, pictures.mirror)
        yield name, losses_of(posterior.denoise, pictures.new, CLOCK)


def networks(pictures: Pictures, seed: int) -> Iterator[tuple[str, Any]]:
    """Train a network that predicts the velocity; yield it early, and at the end, as a denoiser, its weights averaged.

    A picture of 16x16 pixels is shown as 8x8 of four times the channels, which is four times as quick.
    """
    import torch
    from diffusers import UNet2DModel
    from diffusers.training_utils import EMAModel

    torch.manual_seed(seed)
    channels, side = pictures.known.shape[1:3]
    shrink = side // 8
    build: Any = UNet2DModel
    unet = build(
        sample_size=8,
        in_channels=channels * shrink**2,
        out_channels=channels * shrink**2,
        block_out_channels=_WIDTHS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=8,
    ).to(memory_format=torch.channels_last)
    shuffle, back = torch.nn.PixelUnshuffle(shrink), torch.nn.PixelShuffle(shrink)
    schedule, generator = Schedule.cosine(), np.random.default_rng(seed)

    class Velocity(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, x: Any, t: Any) -> Any:
            shown = shuffle(x).to(memory_format=torch.channels_last)
            return back(self.unet(shown, 1000 * t).sample)

    network: Any = Velocity()
    ema = EMAModel(network.parameters(), decay=_EMA)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _STEPS, pct_start=0.1)
    known = pictures.known.astype(np.float32)
    for step in range(1, _STEPS + 1):
        x_0 = known[generator.integers(len(known), size=_BATCH)]
        if pictures.mirror:
            x_0 = np.where(generator.random((_BATCH, 1, 1, 1)) < 0.5, x_0, x_0[..., ::-1])
        noise = generator.standard_normal(x_0.shape, np.float32)
        t = (np.arange(_BATCH) + generator.random(_BATCH)) / _BATCH  # no batch misses a part of the schedule
        alpha = schedule.alpha(t)[:, None, None, None]
        signal, power = np.sqrt(alpha), np.sqrt(1 - alpha)
        shown, wanted = signal * x_0 + power * noise, signal * noise - power * x_0
        given = (torch.from_numpy(each.astype(np.float32)) for each in (shown, t, wanted))
        x_t, times, target = given
        loss = (network(x_t, times) - target).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(network.parameters())
        if step in (_EARLY, _STEPS):
            ema.store(network.parameters())
            ema.copy_to(network.parameters())
            network.eval()
            yield ("early" if step == _EARLY else "network"), Denoiser(network, "v", schedule, value_range=(-1, 1))
            network.train()
            ema.restore(network.parameters())


def save(path: Path, found: dict[str, Measured], about: dict[str, Any]) -> None:
    """Write what was measured as safetensors; replicates as distances from the mean time, in half precision."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for name, each in found.items():
        tensors[f"{name}.losses"] = each.losses.astype(np.float32)
        tensors[f"{name}.times"] = np.append(each.times, each.noise)
        tensors[f"{name}.replicates"] = (each.replicates - each.times).astype(np.float16)
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"about": json.dumps({"denoisers": list(found), **about})})


def load(path: str | Path) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Read what `save` wrote, and what is told of it. Raises ValueError, naming the file, for anything else."""
    with opened_tensors(path, "no measurement of predictions") as file:
        about, found = json.loads(file.metadata()["about"]), {}
        for name in about.pop("denoisers"):
            losses, times, replicates = (
                file.get_tensor(f"{name}.{part}").astype(np.float64) for part in ("losses", "times", "replicates")
            )
            found[name] = Measured(losses, times[:-1], times[:-1] + replicates, float(times[-1]))
    return found, about


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.prediction", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(), help="folder of open-mix-64.zip and caltech101-64.zip")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the safetensors files")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for kind in given.kinds:
            _measure(kind, seed, given.data, given.out)


def _measure(kind: str, seed: int, data: Path, out: Path) -> None:
    """Measure the formulas for a kind, if that was not done, and then its network of one seed."""
    of_formulas, of_network = out / f"{kind}.safetensors", out / f"{kind}-{seed}.safetensors"
    if of_formulas.exists() and of_network.exists():
        return
    pictures = KINDS[kind](data)
    about: dict[str, Any] = {"made by": "python -m reschrom.companion.reference.prediction", "kind": kind}
    about |= {"known": len(pictures.known), "new": len(pictures.new), "flat": _flat(pictures.known)}
    begun, numbers = time.perf_counter(), pictures.new[0].size
    field = losses_of(GaussianField.fit(pictures.known, colour=True).denoise, pictures.new, CLOCK)
    variance = field.mean[:, -1:], field.replicates[:, :, -1:]
    if not of_formulas.exists():
        found = {name: measured(losses, variance, numbers, CLOCK) for name, losses in formulas(pictures)}
        save(of_formulas, found, about)
        print(kind, pictures.known.shape, pictures.new.shape, f"{time.perf_counter() - begun:.0f}", flush=True)
    found = {}
    for name, denoise in networks(pictures, seed):
        precision = denoise.precision(Schedule.cosine().alpha(CLOCK))
        losses = losses_of(denoise, pictures.new, CLOCK)
        found[name] = measured(losses, variance, numbers, CLOCK, precision)
    save(of_network, found, {**about, "seed": seed, "steps": _STEPS, "early": _EARLY, "batch": _BATCH})
    print(kind, seed, f"{time.perf_counter() - begun:.0f}", found["network"].times.round(3), flush=True)


def _flat(pictures: Images) -> float:
    """Return in what share of the 2x2 blocks no number differs from another by more than one of 64 parts of white."""
    n, channels, height, width = pictures.shape
    blocks = pictures.reshape(n, channels, height // 2, 2, width // 2, 2)
    spread = blocks.max(axis=(3, 5)) - blocks.min(axis=(3, 5))
    return round(float((spread.max(axis=1) <= 2 / 64).mean()), 4)


if __name__ == "__main__":
    main()
