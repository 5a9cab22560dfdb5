"""Runs of a text-to-image model as the page *Explore a run* shows them: pictures of every step, and what they measure.

`python -m reschrom.companion.reference.run MODEL --captions K --prompts TEXT ... --out FOLDER` draws them anew: a WebP
sheet for each prompt, of one row for each kind of picture and one column for each step, and `runs.js`, which holds the
numbers. It is a script and no JSON, because a page that is opened from a disk may not read other files.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from reschrom._files import file_hashes, replacing
from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.pipelines.runs import Record
from reschrom.theory.bands import bands, upsample
from reschrom.theory.chromatogram import Chromatogram

# Of the differences that a band or guidance shows, this part is within what is drawn; the rest is black or white.
_SHOWN = 0.995


class Run(NamedTuple):
    """The records of every step, what was measured of guidance, and the numbers of the page."""

    records: list[Record]
    guidance: Chromatogram
    numbers: dict[str, Any]


def recorded(pipeline: Any, prompt: str, *, images: int, steps: int, guidance: float, seed: int) -> Run:
    """Draw a prompt.

    The numbers are, step by step from noise to image: `timesteps`, the shares of every band, finest first, in
    guidance and in what has grown since the step before, and the nats of guidance up to each step; means over `images`.
    """
    import torch

    with Chromatograph(pipeline, keep="bands") as meter:
        pipeline(
            prompt,
            num_images_per_prompt=images,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        )
    told = meter.guidance.information().gained.sum(axis=0)[1:]  # without the step that ends in the image itself
    numbers = {
        "timesteps": [int(record.timestep) for record in meter.kept],
        "guidance": _by_step(meter.guidance),
        "growth": [None, *_by_step(meter.growth)],  # at the first step nothing has grown yet
        "nats": np.round(np.pad(told, (0, len(meter.kept) - len(told)), mode="edge"), 3).tolist(),
    }
    return Run(meter.kept, meter.guidance, numbers)


def _by_step(chromatogram: Chromatogram) -> list[list[float]]:
    """Return the shares of all bands, finest first, step by step from noise to image."""
    return np.round(chromatogram.shares.T[::-1], 4).tolist()


def sheet(records: Sequence[Record], image: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return one image's x_t, estimate, guidance and the bands of its estimate, finest first, step by step.

    What is no picture but a difference, guidance and all bands but the coarsest, is drawn around middle grey, each on
    one scale for all steps.
    """
    rows = [[np.clip(record.x_t[image] / 1.5, -1, 1) for record in records]]
    rows.append([np.clip(record.estimate[image], -1, 1) for record in records])
    rows.append(scaled([np.zeros_like(r.x_t[image]) if r.guidance is None else r.guidance[image] for r in records]))
    split = [bands(record.estimate[image]) for record in records]
    for level in range(len(split[0])):
        whole = [upsample(each[level], level) for each in split]
        rows.append(scaled(whole) if level < len(split[0]) - 1 else whole)
    pixels = np.concatenate([np.concatenate(row, axis=-1) for row in rows], axis=-2)
    return np.round(127.5 * (np.moveaxis(np.clip(pixels, -1, 1), 0, -1) + 1)).astype(np.uint8)


def scaled(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bring differences to one scale, on which nearly all of them lie in [-1, 1]."""
    largest = max(float(np.quantile(np.abs(image), _SHOWN)) for image in images)
    return [image / max(largest, 1e-12) for image in images]


def write(model: str, prompts: Mapping[str, int], captions: int, out: Path, settings: Mapping[str, Any]) -> None:
    """Draw every prompt, with its seed, into the folder `out`.

    captions: of how many a prompt is one; it tells at most their logarithm.
    """
    from PIL import Image

    from reschrom.pipelines.load import load_pipeline

    pipeline = load_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    out.mkdir(parents=True, exist_ok=True)
    runs = []
    for number, (prompt, seed) in enumerate(prompts.items()):
        records, _, numbers = recorded(pipeline, prompt, seed=seed, **settings)
        name = f"run-{number:02d}.webp"
        with replacing(out / name) as temporary:
            Image.fromarray(sheet(records, 0)).save(temporary, "WEBP", quality=70, method=6)
        runs.append({"prompt": prompt, "sheet": name, **numbers})
    held = {
        "model": model,
        "weights": file_hashes(Path(model)),
        **settings,
        "possible": round(math.log(captions), 3),
        "side": int(records[0].x_t.shape[-1]),
        "runs": runs,
    }
    with replacing(out / "runs.js") as temporary:
        temporary.write_text(f"const RECORDED = {json.dumps(held)};\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.run", description=__doc__)
    parser.add_argument("model", help="folder of a text-to-image model")
    parser.add_argument("--prompts", required=True, nargs="+", help="what is drawn, from the seeds 0, 1, 2, ...")
    parser.add_argument("--captions", required=True, type=int, help="that the model was trained on")
    parser.add_argument("--out", required=True, type=Path, help="the folder that is written")
    parser.add_argument("--images", type=int, default=8, help="that a prompt's numbers are the mean of")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    given = parser.parse_args(arguments)
    settings = {"images": given.images, "steps": given.steps, "guidance": given.guidance}
    write(given.model, {prompt: seed for seed, prompt in enumerate(given.prompts)}, given.captions, given.out, settings)


if __name__ == "__main__":
    main()
