"""The moving picture of the first page: one run from noise to image, its bands, and the map that they leave.

`python -m reschrom.companion.reference.hero MODEL --prompt TEXT --out FOLDER` draws it anew: `hero.webp`, which moves,
and `hero.png`, its last frame, for readers who want nothing to move.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from reschrom._files import replacing
from reschrom.companion.reference.run import recorded, scaled
from reschrom.pipelines.runs import Record
from reschrom.plots._axes import shades, show_image, time_axis
from reschrom.plots._figure import WIDTH, Figure, styled
from reschrom.plots.chromatograms import heat_map
from reschrom.theory.bands import band_names, bands, upsample
from reschrom.theory.chromatogram import Chromatogram

_PAUSE, _LAST = 160, 2600  # milliseconds of a frame, and of the last one
_PIXELS = 110  # per inch


@styled
def frame(records: Sequence[Record], chromatogram: Chromatogram, step: int) -> Figure:
    """Draw the first image at one step: noised, estimated and in bands, above the part of the map that is known."""
    record, names = records[step], band_names(chromatogram.size)
    figure = Figure(figsize=(WIDTH, 6.3), raster=True, layout=None)
    large, side, left = 2.75, 0.86, 0.75
    for place, (title, image) in enumerate((("with noise", record.x_t[0] / 1.5), ("estimate", record.estimate[0]))):
        across = left + 0.25 + place * (large + 0.45)
        axes = figure.add_axes((across / WIDTH, 1 - (0.3 + large) / 6.3, large / WIDTH, large / 6.3))
        show_image(axes, image)
        axes.set_title(title, fontsize=11, loc="center", pad=4)
    split = [[upsample(each, level) for level, each in enumerate(bands(r.estimate[0]))] for r in records]
    for level, (name, colour) in enumerate(zip(names, shades(len(names)), strict=True)):
        finest_last = len(names) - 1 - level
        across = left + finest_last * (WIDTH - left - 0.1) / len(names)
        axes = figure.add_axes((across / WIDTH, 1 - (3.35 + side) / 6.3, side / WIDTH, side / 6.3))
        of_band = [each[level] for each in split]
        show_image(axes, (of_band if level == len(names) - 1 else scaled(of_band))[step])
        axes.set_title(name, fontsize=9, loc="center", pad=3, color=colour)
    axes = figure.add_axes((left / WIDTH, 0.07, 1 - (left + 0.1) / WIDTH, 0.235))
    heat_map(axes, chromatogram)
    now = chromatogram.edges[::-1][step + 1]
    axes.axvspan(now, chromatogram.edges[0], color="white", zorder=3)
    time_axis(axes, chromatogram.edges[0], chromatogram.edges[-1], "noise  ⟶  image")
    axes.set_xticks([])
    axes.set_ylabel("")
    return figure


def write(model: str, prompt: str, out: Path, *, images: int, steps: int, guidance: float, seed: int) -> None:
    """Draw a run into `hero.webp` and its last frame into `hero.png`."""
    from reschrom.pipelines.load import load_pipeline

    pipeline = load_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    run = recorded(pipeline, prompt, images=images, steps=steps, guidance=guidance, seed=seed)
    frames = []
    for step in range(steps):
        held = io.BytesIO()
        frame(run.records, run.guidance, step).savefig(held, format="png", dpi=_PIXELS, metadata={"Software": None})
        frames.append(Image.open(held).convert("RGB"))
    pauses = [*[_PAUSE] * (steps - 1), _LAST]
    with replacing(out / "hero.webp") as temporary:
        frames[0].save(
            temporary, "WEBP", save_all=True, append_images=frames[1:], duration=pauses, loop=0, quality=72, method=6
        )
    with replacing(out / "hero.png") as temporary:
        frames[-1].save(temporary, "PNG", optimize=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.hero", description=__doc__)
    parser.add_argument("model", help="folder of a text-to-image model")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--out", required=True, type=Path, help="the folder that is written")
    parser.add_argument("--images", type=int, default=8, help="that the map is the mean of; the first is shown")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    settings = {"images": given.images, "steps": given.steps, "guidance": given.guidance, "seed": given.seed}
    write(given.model, given.prompt, given.out, **settings)


if __name__ == "__main__":
    main()
