"""The moving picture of the first page: one run from noise to image, its resolutions, and the map that they leave.

`python -m reschrom.companion.reference.hero MODEL --prompt TEXT --out FOLDER` draws it anew: `hero.webp`, which moves,
and `hero.png`, the frame in its middle, for readers who want nothing to move.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from PIL import Image

from reschrom._files import replacing
from reschrom.companion.reference.run import Views, recorded, views
from reschrom.plots._axes import shades, show_image, time_axis
from reschrom.plots._figure import WIDTH, Figure, styled
from reschrom.plots.chromatograms import heat_map
from reschrom.theory.chromatogram import Chromatogram

_PAUSE, _LAST = 160, 2600  # milliseconds of a frame, and of the last one
_PIXELS = 110  # per inch
# Inches: the height of the figure, the side of its large pictures, the height of the map and where that begins.
_HEIGHT, _LARGE, _MAP, _LEFT, _BOTTOM = 6.3, 2.4, 3.2, 0.65, 0.35


@styled
def frame(seen: Views, chromatogram: Chromatogram, step: int) -> Figure:
    """Draw an image at one step: noised and estimated, above the part of the map that is known.

    Before each row of the map stands the estimate up to the resolution of the row.
    """
    figure = Figure(figsize=(WIDTH, _HEIGHT), raster=True, layout=None)

    def add_axes(left: float, bottom: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / WIDTH, bottom / _HEIGHT, width / WIDTH, height / _HEIGHT))

    for place, (title, images) in enumerate((("with noise", seen.noised), ("estimate", seen.resolutions[0]))):
        middle = WIDTH * (1 + 2 * place) / 4
        axes = add_axes(middle - _LARGE / 2, _HEIGHT - 0.3 - _LARGE, _LARGE, _LARGE)
        show_image(axes, images[step])
        axes.set_title(title, fontsize=11, loc="center", pad=4)
    names = chromatogram.band_names
    row = _MAP / len(names)
    for level, (name, colour) in enumerate(zip(names, shades(len(names)), strict=True)):
        axes = add_axes(_LEFT, _BOTTOM + _MAP - (level + 0.96) * row, 0.92 * row, 0.92 * row)
        show_image(axes, seen.resolutions[level][step])
        axes.set_ylabel(name, fontsize=10, rotation=0, ha="right", va="center", color=colour, fontweight="bold")
    before = _LEFT + row
    axes = add_axes(before, _BOTTOM, WIDTH - before - 0.1, _MAP)
    heat_map(axes, chromatogram)
    now = chromatogram.edges[::-1][step + 1]
    axes.axvspan(now, chromatogram.edges[0], color="white", zorder=3)
    time_axis(axes, chromatogram.edges[0], chromatogram.edges[-1], "noise  ⟶  image")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel("")
    return figure


def write(model: str, prompt: str, out: Path, *, images: int, steps: int, guidance: float, seed: int) -> None:
    """Draw a run into `hero.webp`, and into `hero.png` the step at which much is known and much is noise."""
    from reschrom.pipelines.load import load_pipeline

    pipeline = load_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    run = recorded(pipeline, prompt, images=images, steps=steps, guidance=guidance, seed=seed)
    seen, frames = views(pipeline, run.records, 0), []
    for step in range(steps):
        held = io.BytesIO()
        frame(seen, run.guidance, step).savefig(held, format="png", dpi=_PIXELS, metadata={"Software": None})
        frames.append(Image.open(held).convert("RGB"))
    pauses = [*[_PAUSE] * (steps - 1), _LAST]
    with replacing(out / "hero.webp") as temporary:
        frames[0].save(
            temporary, "WEBP", save_all=True, append_images=frames[1:], duration=pauses, loop=0, quality=72, method=6
        )
    with replacing(out / "hero.png") as temporary:
        frames[steps // 2].save(temporary, "PNG", optimize=True)


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
