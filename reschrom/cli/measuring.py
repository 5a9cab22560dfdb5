"""What `reschrom measure` does: divide the images, go on where it stopped, keep what a report needs."""

import argparse
import hashlib
import importlib.metadata
import inspect
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reschrom import __version__
from reschrom._files import read_text, replacing
from reschrom.cli.drawing import draw, opened
from reschrom.pipelines.adapter import denoiser_of
from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.pipelines.latents import pictured
from reschrom.pipelines.runs import Record
from reschrom.plots.report import Sample, png
from reschrom.plots.words import MOST_NATS
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.spectrum import Spectrum

# Columns of the strip in a report.
_SHOWN = 8


class _Share(NamedTuple):
    """The images of one process, numbers from `first` to before `last`, and which it is of those that run together."""

    first: int
    last: int
    rank: int = 0
    world: int = 1


class _Watcher:
    """Sees each step as it is measured: keeps the first image that is drawn, and writes the preview."""

    def __init__(self, pipeline: Any, preview: Path | None) -> None:
        self._pipeline, self._preview = pipeline, preview
        self._kept: list[Record] = []
        self._batch = self._step = 0

    def begin_batch(self) -> None:
        self._batch, self._step = self._batch + 1, 0

    def __call__(self, record: Record) -> None:
        self._step += 1
        one = Record(record.timestep, record.x_t[:1], record.estimate[:1], None, None)
        if self._batch == 1:
            self._kept.append(one)
        if self._preview is not None:  # the files of the batch before are replaced
            with replacing(self._preview / f"step-{self._step:03d}.png") as temporary:
                temporary.write_bytes(png(pictured(self._pipeline, one.estimate)[0]))

    def sample(self) -> Sample | None:
        """Return some steps of the image that was kept, evenly spread over its time."""
        times = np.array([record.timestep for record in self._kept])
        if not len(times):
            return None
        wanted = np.linspace(times[0], times[-1], min(_SHOWN, len(times)))
        shown = [self._kept[i] for i in dict.fromkeys(int(np.argmin(np.abs(times - time))) for time in wanted)]
        noised = [pictured(self._pipeline, record.x_t)[0] for record in shown]
        estimates = [pictured(self._pipeline, record.estimate)[0] for record in shown]
        return Sample([record.timestep for record in shown], noised, estimates)


def measure(
    arguments: argparse.Namespace, spectrum: Spectrum | None, write: Callable[[Chromatogram, Sample | None], None]
) -> None:
    """Measure what the model generates, the guidance of Eq. (19), or growth where guidance is off; and have it written.

    Of a video it is measured by temporal bands if so asked. What was measured so far is kept beside the output until
    that is written.
    spectrum: what it will be compared with, refused after one batch if it does not belong to these images.
    """
    prompts = _prompts(arguments)
    share = _share(arguments, arguments.images * len(prompts))
    pipeline = opened(argparse.Namespace(**{**vars(arguments), "prompt": prompts if prompts[0] is not None else None}))
    about = _about(arguments, pipeline, prompts)
    kept = arguments.out.with_name(f"{arguments.out.name}.part{f'-{share.rank}' * (share.world > 1)}.npz")
    before = _resumed(kept, about, share)
    reports = share.rank == 0 and (arguments.out.suffix == ".html" or arguments.preview is not None)
    watcher = _Watcher(pipeline, arguments.preview) if reports else None
    if arguments.preview is not None:
        arguments.preview.mkdir(exist_ok=True)
    whole, begun = before, time.monotonic()
    first = share.first if before is None else share.first + (before.images or 0)
    with Chromatograph(pipeline, seed=arguments.seed, first_image=first, watch=watcher) as meter:
        for numbers in _batches(first, share.last, arguments):
            if watcher is not None:
                watcher.begin_batch()
            left = _left(time.monotonic() - begun, numbers.start - first, share.last - numbers.start)
            title = "" if share.rank else f"images {numbers.start + 1} to {numbers.stop} of {share.last}{left}"
            draw(pipeline, arguments, prompts[numbers.start // arguments.images], arguments.guidance, numbers, title)
            now = replace(meter.temporal() if arguments.temporal else meter.chromatogram, about=about)
            now.expected(spectrum)
            whole = Chromatogram.merge([before, now] if before else [now])
            whole.save(kept)
    assert whole is not None  # there is an image at least
    with _gathered(whole, share) as together:
        if together is not None:
            write(together, watcher.sample() if watcher else None)
    kept.unlink()


def _prompts(arguments: argparse.Namespace) -> list[str | None]:
    """Return what to draw, one None for a pipeline that reads no prompts."""
    if arguments.prompts is None:
        return arguments.prompt or [None]
    lines = [line.strip() for line in read_text(arguments.prompts).splitlines()]
    if not any(lines):
        raise ValueError(f"--prompts must be a file with one prompt a line; {arguments.prompts} has none")
    return [line for line in lines if line]


def _share(arguments: argparse.Namespace, images: int) -> _Share:
    """Return which of the images this process measures."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if arguments.shard is not None:
        if world > 1:
            raise ValueError(
                "--shard is for processes that are started one by one; these share the images by themselves"
            )
        if arguments.out.suffix not in (".json", ".npz"):
            raise ValueError(f"with --shard, --out must end in .json or .npz, for reschrom merge; got {arguments.out}")
        part, parts = arguments.shard
    else:
        part, parts = rank, world
    if parts > images > 0:
        raise ValueError(f"{parts} processes cannot share {images} images; give more --images")
    first, last = images * part // parts, images * (part + 1) // parts
    return _Share(first, last) if arguments.shard is not None else _Share(first, last, rank, world)


def _batches(first: int, last: int, arguments: argparse.Namespace) -> Iterator[range]:
    """Cut numbers of images into batches that hold one prompt each."""
    while first < last:
        end = min(first + arguments.batch, last, (first // arguments.images + 1) * arguments.images)
        yield range(first, end)
        first = end


def _resumed(kept: Path, about: dict[str, str], share: _Share) -> Chromatogram | None:
    """Return what the same command measured before it was stopped."""
    if not kept.is_file():
        return None
    before = Chromatogram.load(kept)
    otherwise = f"finish that, or remove {kept}"
    for key in {**before.about, **about}:
        if before.about.get(key) != about.get(key):
            raise ValueError(
                f"{kept} was measured with {key} {before.about.get(key)}, not {about.get(key)}: {otherwise}"
            )
    numbers = before.source.energies.numbers if before.source else ()
    if len(numbers) != 1 or numbers[0][0] != share.first or numbers[0][1] > share.last:
        raise ValueError(f"{kept} was measured with other --images or another --shard: {otherwise}")
    return before


def _about(arguments: argparse.Namespace, pipeline: Any, prompts: list[str | None]) -> dict[str, str]:
    """Return in words what is measured and how: measurements merge, and go on, where all of it is the same."""
    usual = inspect.signature(pipeline.__call__).parameters.get("guidance_scale")
    model = Path(arguments.model)
    asked = {
        "model": model.resolve().name if model.is_dir() else arguments.model,
        "pipeline": type(pipeline).__name__,
        "weights": _fingerprint(denoiser_of(pipeline)),
        "prompt": "\n".join(prompt for prompt in prompts if prompt is not None) or None,
        MOST_NATS: _most_nats(pipeline, prompts),
        "images of each prompt": arguments.images if len(prompts) > 1 else None,
        "negative prompt": arguments.negative_prompt,
        "guidance": arguments.guidance if arguments.guidance is not None else usual and usual.default,
        "steps": arguments.steps,
        "scheduler": type(pipeline.scheduler).__name__,
        "height": arguments.height,
        "width": arguments.width,
        "frames": arguments.frames,
        "bands": "temporal" if arguments.temporal else None,
        "lora": arguments.lora,
        "dtype": arguments.dtype or "float32",
        "variant": arguments.variant,
        "revision": arguments.revision,
        "seed": arguments.seed,
        "made by": f"reschrom {__version__}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("diffusers", "torch")),
    }
    return {key: str(value) for key, value in asked.items() if value is not None}


def _most_nats(pipeline: Any, prompts: list[str | None]) -> str | None:
    """Return what a prompt can say at most, as its shortest code of tokens does; the mean over prompts."""
    tokenizers = [part for name, part in pipeline.components.items() if name.startswith("tokenizer") and part]
    if prompts[0] is None or not tokenizers:
        return None
    codes = [
        [len(tokens) * math.log(len(tokenizer)) for tokens in tokenizer(prompts).input_ids] for tokenizer in tokenizers
    ]
    return f"{np.mean(np.min(codes, axis=0)):.1f}"


def _fingerprint(network: Any) -> str:
    """Return a few letters that differ between networks: a hash of the first numbers of all its tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        some = tensor.detach().flatten()[:64].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + some.tobytes())
    return digest.hexdigest()[:12]


def _left(seconds: float, done: int, todo: int) -> str:
    """Say how long all that is left will take, once something is done."""
    if not done:
        return ""
    left = timedelta(seconds=round(seconds / done * todo))
    return f", {left} left in all"


@contextmanager
def _gathered(mine: Chromatogram, share: _Share) -> Iterator[Chromatogram | None]:
    """Give the first process what all that run together measured, and the others None; all leave together."""
    if share.world == 1:
        yield mine
        return
    import torch
    import torch.distributed as together

    assert mine.source is not None
    together.init_process_group("gloo", timeout=timedelta(days=7))  # the slowest may take long
    try:
        state = {name: torch.from_numpy(np.array(value)) for name, value in mine.source.energies.state().items()}
        parts = [{name: torch.empty_like(value) for name, value in state.items()} for _ in range(share.world)]
        for name, value in state.items():
            together.all_gather([part[name] for part in parts], value)
        means = [StreamingMean.from_state({name: value.numpy() for name, value in part.items()}) for part in parts]
        source = replace(mine.source, energies=StreamingMean.merge(means))
        whole = Chromatogram.measured(source, mine.edges, mine.size, mine.name, mine.about, mine.frames)
        yield whole if share.rank == 0 else None
        together.barrier()
    finally:
        together.destroy_process_group()
