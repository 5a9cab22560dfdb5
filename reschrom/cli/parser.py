"""What the command line understands: every command and its options."""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from reschrom.cli.schedules import add_schedule
from reschrom.cli.values import PIXELS, SIZE, at_least, duration, shard, size
from reschrom.design.timesteps import EQUAL

WORDS = """\
words:
  t      how noised an image is: 0 is the image, the last time is pure noise. A named schedule ends at t = 1 (the
         natural one never), a diffusers scheduler counts its timesteps, 1000 as a rule. Generation runs backwards.
  level  how often the sides of an image are halved: 0 is full resolution; 64x64 pixels are one pixel at level 6.
"""


class Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        # Python before 3.14 takes -3e0 and -inf for options.
        self._negative_number_matcher = re.compile(r"-(\d|\.\d|inf$|nan$)", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """Leave with one line, where argparse would print the usage first."""
        self.exit(2, f"reschrom: {message} (see {self.prog} --help)\n")


def parser() -> Parser:
    """Build the parser; what it returns says in `command` which command was given."""
    whole = Parser(
        prog="reschrom",
        description="Which resolution does a diffusion model generate at each step?",
        epilog=f"{WORDS}\neach command has its own help: reschrom time --help",
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    chromatogram = _command(
        commands,
        "chromatogram",
        "draw or tabulate which resolution is generated at each time",
        "reschrom chromatogram --schedule cosine --size 64 --out chromatogram.png",
    )
    add_schedule(chromatogram)
    chromatogram.add_argument("--size", type=size, required=True, metavar=SIZE, help=PIXELS)
    chromatogram.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the file to write: .png, .svg, .csv (shares), .json or .npz (everything)",
    )
    _add_spectrum(chromatogram)
    chromatogram.add_argument("--until", type=float, help="the last time to show, needed by the natural schedule only")

    spectrum = _command(
        commands,
        "spectrum",
        "measure the variance of each resolution band of a data set, for the commands that take --spectrum",
        "reschrom spectrum photos --size 64 --images 500 --out spectrum.json",
    )
    spectrum.add_argument(
        "source",
        metavar="ZIP|FOLDER|photos|ID",
        help="pictures in folders of any depth; photos are those of the installed packages, 1000 random pieces unless "
        "--images says more; an ID is fetched from the hub. The middle of a picture is cut to the shape of --size, "
        "after it was turned upright and laid on white",
    )
    spectrum.add_argument("--size", type=size, required=True, metavar=SIZE, help=PIXELS)
    spectrum.add_argument(
        "--images", type=at_least(2), help="at most so many, in the order of their names (default: all)"
    )
    spectrum.add_argument(
        "--model", metavar="ID|FOLDER", help="measure the latents of this latent model instead of the pictures"
    )
    spectrum.add_argument("--seed", type=at_least(0), default=0, help="of the latents (default: 0)")
    spectrum.add_argument(
        "--workers", type=at_least(1, 1024), default=1, metavar="N", help="processes that read (default: 1)"
    )
    spectrum.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out what cannot be read, and say at the end how many pictures and why, instead of stopping there",
    )
    spectrum.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="measure only the I-th of N parts of the pictures, for reschrom merge",
    )
    spectrum.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the file to write, .json or, for reschrom merge, .npz; without it nothing is written",
    )

    timesteps = _command(
        commands,
        "timesteps",
        "choose timesteps that spend the steps where signal is generated, for timesteps= or sigmas= of a pipeline",
        "reschrom timesteps --schedule data/models/pocket-if-64 --size 64 --spectrum spectrum.json --steps 27\n"
        "  reschrom timesteps --model data/models/pocket-if-64 --prompt 'a photo of a sailing ship' --steps 27",
    )
    timesteps.add_argument("--steps", type=at_least(1), required=True, help="how many timesteps to choose")
    timesteps.add_argument(
        "--equal",
        choices=EQUAL,
        default=EQUAL[0],
        help="what every step has the same share of: the error that DDIM makes, the variance that ancestral sampling "
        "(DDPM) loses, or the generated signal (default: error)",
    )
    timesteps.add_argument(
        "--weights", type=float, nargs="+", metavar="W", help="of the bands, finest first (default: equal)"
    )
    timesteps.add_argument(
        "--noise-error",
        type=float,
        metavar="E",
        help="root mean square error of the network's noise prediction near pure noise, 0 to 1, which bounds the steps "
        "there (default: none)",
    )
    timesteps.add_argument("--mu", type=float, help="of a scheduler that shifts its sigmas by the size of the image")
    add_schedule(timesteps, required=False)
    timesteps.add_argument("--size", type=size, metavar=SIZE, help=f"with --schedule: {PIXELS}")
    _add_spectrum(timesteps)
    by_model = timesteps.add_argument_group("measured instead, on what a model draws without guidance in 50 steps")
    by_model.add_argument("--model", metavar="ID|FOLDER", help="a diffusers pipeline, on disk or hub")
    by_model.add_argument("--prompt", help="what to draw; not for an unconditional pipeline")
    _add_drawing(by_model)

    measure = _command(
        commands,
        "measure",
        "measure which resolution a diffusers pipeline generates at each step",
        "reschrom measure --model data/models/pocket-if-64 --prompt 'a photo of a sailing ship' --out report.html",
    )
    measure.add_argument("--model", required=True, metavar="ID|FOLDER", help="a diffusers pipeline, on disk or hub")
    prompts = measure.add_mutually_exclusive_group()
    prompts.add_argument(
        "--prompt",
        action="append",
        help="what to draw; again for another, of which as many images are drawn; not for an unconditional pipeline",
    )
    prompts.add_argument("--prompts", type=Path, metavar="FILE", help="the same from a text file, one prompt a line")
    measure.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the file to write: .html (a report), .png, .svg, .csv (shares), .json or .npz (everything, also for "
        "reschrom merge). With guidance it shows the energy of guidance, Eq. (19), without guidance the growth of the "
        "estimate. What was measured so far stands in OUT.part.npz, from which the same command goes on",
    )
    _add_sampling(measure)
    measure.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="measure only the I-th of N parts of the images, for reschrom merge; accelerate launch needs no such word",
    )
    either = measure.add_mutually_exclusive_group()
    either.add_argument(
        "--temporal",
        action="store_true",
        help="of a video measure its temporal bands, from the change between frames to the mean of all, in the place "
        "of its resolutions",
    )
    _add_spectrum(either, "draw what a Gaussian field with this spectrum would do beside the paper's formula")
    measure.add_argument(
        "--preview",
        type=Path,
        metavar="FOLDER",
        help="write the estimate of the image there, a PNG file for every step",
    )
    pipeline = measure.add_argument_group("settings of the pipeline, where it has them")
    add = pipeline.add_argument
    add("--negative-prompt", metavar="TEXT", help="what not to draw")
    add("--height", type=at_least(1), metavar="PIXELS", help="of the images")
    add("--width", type=at_least(1), metavar="PIXELS", help="of the images")
    add("--frames", type=at_least(1), help="of a video")
    add("--scheduler", metavar="NAME", help="a class of diffusers in the place of the pipeline's own")
    add("--lora", metavar="FILE|FOLDER|ID", help="LoRA weights to add, safetensors")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights (default: float32)")
    add("--variant", metavar="NAME", help="of the weights, such as fp16")
    add("--revision", metavar="NAME", help="branch, tag or commit on the hub")
    add("--offload", action="store_true", help="keep on --device only the part of the model that works")

    merge = _command(
        commands,
        "merge",
        "put together what was measured of other images apart: of reschrom measure, or of reschrom spectrum",
        "reschrom merge part-1.json part-2.json --out all.html",
    )
    merge.add_argument(
        "parts", nargs="+", type=Path, metavar="FILE", help="of measure: .json or .npz; of spectrum: .npz"
    )
    merge.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the file to write; of measure: .html, .png, .svg, .csv, .json or .npz; of spectrum: .json or .npz",
    )
    _add_spectrum(merge, "of measure: draw what a Gaussian field with this spectrum would do")

    switch = _command(
        commands,
        "switch",
        "tell at which step a written prompt changes, and draw it between the two pure ones, from the same noise",
        "reschrom switch data/models/pocket-if-64 'a [photo:pencil sketch:16x16] of a lemon' --out picture.png",
    )
    switch.add_argument("model", metavar="MODEL", help="a diffusers pipeline, on disk or hub")
    switch.add_argument(
        "prompt",
        metavar="PROMPT",
        help="with one switch, [a:b:when]. `when` is a number of steps, a fraction of them, or a resolution: 16x16 "
        "keeps a until 16x16 and all coarser bands have 95 %% of what they gain with it, by the growth of the model's "
        "own estimate without guidance. The answer is then tried, with guidance: the table shows how much of each "
        "band stays as the first prompt alone makes it. The bands of a latent model are those of its latents",
    )
    switch.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the picture to write, .png or .svg: the first image pure, switched and pure under the chromatogram",
    )
    _add_sampling(switch)

    train = commands.add_parser("train", help="train a small model").add_subparsers(required=True, metavar="KIND")
    for kind, summary, name in (
        ("t2i", "train a text-to-image model", "if-64"),
        ("autoencoder", "train the autoencoder of a text-to-image model in latents", "vae-64"),
        ("image", "train a model of images without captions, or the lowest level of a cascade", "lowres-32"),
        ("residual", "train one level of a cascade to predict what averaging 2x2 pixels hides", "residual-64"),
        ("dvdp", "train a model of images without captions that starts from small noise", "dvdp-64"),
    ):
        learn = _command(
            train,
            kind,
            f"{summary}; or go on where training was stopped",
            f"reschrom train {kind} --config data/pocket-{name}.yaml --data open-mix-64.zip --out runs/pocket\n"
            f"  accelerate launch -m reschrom.cli train {kind} ...   on more than one GPU",
        )
        learn.add_argument("--config", type=Path, required=True, metavar="YAML", help="the recipe of the model")
        _add_photographs(learn)
        learn.add_argument("--out", type=Path, required=True, help="folder of the pipeline, checkpoints, log, samples")
        learn.add_argument("--steps", type=at_least(1), help="instead of those of the recipe")
        learn.add_argument(
            "--save-every", type=at_least(1), default=250, help="steps between checkpoints (default: 250)"
        )
        learn.add_argument(
            "--show-every", type=at_least(1), default=1000, help="steps between sample grids (default: 1000)"
        )
        learn.set_defaults(command="train", kind=kind)
    every = _command(
        train,
        "all",
        "train every model that ships, with fewer steps where time is short; or go on where training was stopped",
        "reschrom train all --data open-mix-64.zip --out runs --budget 25m",
    )
    _add_photographs(every)
    every.add_argument("--out", type=Path, required=True, help="folder of the models and of their recipes")
    every.add_argument(
        "--budget",
        type=duration,
        required=True,
        metavar="TIME",
        help="for all together, such as 90s, 25m or 3h; every model has the same share of the steps of its recipe",
    )
    every.add_argument("--recipes", type=Path, default=Path("data"), help="folder of pocket-*.yaml (default: data)")
    every.set_defaults(command="train", kind="all")

    time = _command(
        commands,
        "time",
        "tell at what time a smaller image is as noisy as the averaged large one",
        "reschrom time --schedule cosine --level 1 --t 0.5",
    )
    add_schedule(time)
    time.add_argument("--level", type=at_least(0), required=True, help="how often the sides are halved: 0, 1, 2, ...")
    time.add_argument("--t", type=float, required=True, help="time of the large image")
    return whole


def _command(commands: "argparse._SubParsersAction[Parser]", name: str, summary: str, example: str) -> Parser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"{WORDS}\nexample:\n  {example}",
    )
    command.set_defaults(command=name)
    return command


def _add_sampling(command: Parser) -> None:
    add = command.add_argument
    add("--steps", type=at_least(1), default=50, help="steps of the pipeline's own scheduler (default: 50)")
    add("--guidance", type=float, help="guidance scale; 1 turns guidance off (default: the pipeline's)")
    _add_drawing(command)


def _add_photographs(command: Parser) -> None:
    command.add_argument(
        "--data",
        required=True,
        metavar="ZIP|FOLDER|photos|ID",
        help="photographs by content; photos are those of the installed packages; an ID is fetched from the hub",
    )


def _add_drawing(command: Any) -> None:
    add = command.add_argument
    add("--images", type=at_least(1), default=16, help="how many to average over (default: 16)")
    add("--seed", type=at_least(0), default=0, help="of the first image; the next has the next (default: 0)")
    add("--device", default="cpu", help="cpu, cuda, mps, ... (default: cpu)")
    add("--batch", type=at_least(1), default=8, help="images at a time, which changes no image (default: 8)")


def _add_spectrum(
    command: argparse._ActionsContainer, purpose: str = "without it the paper's formula is used, which needs none"
) -> None:
    command.add_argument(
        "--spectrum",
        nargs="+",
        metavar="FILE|S",
        help="strength of the images' signal in each resolution: the file that reschrom spectrum wrote, or the "
        f"variance of a coefficient, finest first, one number for every resolution down to the coarsest; {purpose}",
    )
