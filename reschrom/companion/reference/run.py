"""Runs of a text-to-image model as the page *Explore a run* shows them: pictures of every step, and what they measure.

`python -m reschrom.companion.reference.run MODEL --captions K --prompts TEXT ... --out FOLDER` draws them anew: a WebP
sheet for each prompt, of one row for each view and one column for each step, and `runs.js`, which holds the
numbers. It is a script and no JSON, because a page that is opened from a disk may not read other files.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from reschrom._files import file_hashes, replacing
from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.pipelines.latents import pictured
from reschrom.pipelines.runs import Record
from reschrom.theory.bands import depth, downsample, upsample
from reschrom.theory.chromatogram import Chromatogram

# Pixels of pure noise reach beyond those of pictures; divided by this, few of them are cut off.
_REACH = 1.5

Pictures = Float[np.ndarray, "steps channels height width"]


class Run(NamedTuple):
    """The records of every step, what was measured of guidance, and the numbers of the page."""

    records: list[Record]
    guidance: Chromatogram
    numbers: dict[str, Any]


class Views(NamedTuple):
    """One image of a run at every step, as pictures in [-1, 1].

    noised: x_t. Of a latent model it is what the decoder makes of the noised latents.
    resolutions: the estimate up to each resolution, finest first, so that the first is the estimate itself: means over
        cells of pixels, or of latents, which are then decoded. No band is shown by itself, because a decoder makes a
        picture of latents and not of differences between them.
    unguided: the estimate without the prompt.
    """

    noised: Pictures
    resolutions: list[Pictures]
    unguided: Pictures


def recorded(pipeline: Any, prompt: str, *, images: int, steps: int, guidance: float, seed: int) -> Run:
    """Draw a prompt.

    The numbers are, step by step from noise to image: `timesteps`, the shares of every band, finest first, in
    guidance, and the nats of guidance up to each step; means over `images`. The bands of a latent model are those of
    its latents.
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
        "guidance": np.round(meter.guidance.shares.T[::-1], 4).tolist(),
        "nats": np.round(np.pad(told, (0, len(meter.kept) - len(told)), mode="edge"), 3).tolist(),
    }
    return Run(meter.kept, meter.guidance, numbers)


def views(pipeline: Any, records: Sequence[Record], image: int) -> Views:
    """Return what there is to see of one image of a run that was guided."""
    noised = np.stack([record.x_t[image] for record in records])
    estimate = np.stack([record.estimate[image] for record in records])
    unguided = np.stack([record.unguided[image] for record in records if record.unguided is not None])
    up_to = [upsample(downsample(estimate, m), m) for m in range(depth(estimate.shape[-1]) + 1)]
    shown = noised / (_REACH if getattr(pipeline, "vae", None) is None else 1)
    return Views(pictured(pipeline, shown), [pictured(pipeline, each) for each in up_to], pictured(pipeline, unguided))


def sheet(seen: Views) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return x_t, the estimate without the prompt, and the estimate up to each resolution, finest first, as rows."""
    rows = [np.concatenate(list(row), axis=-1) for row in (seen.noised, seen.unguided, *seen.resolutions)]
    pixels = np.moveaxis(np.concatenate(rows, axis=-2), 0, -1)
    return np.round(127.5 * (pixels + 1)).astype(np.uint8)


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
            Image.fromarray(sheet(views(pipeline, records, 0))).save(temporary, "WEBP", quality=70, method=6)
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
