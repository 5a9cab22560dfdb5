"""The command line: `reschrom chromatogram`, `reschrom time` and `reschrom book`."""

import argparse
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from reschrom._files import replacing
from reschrom.chromatogram import Chromatogram
from reschrom.scaling import intensity_scale, matched_time
from reschrom.schedules import Schedule

CONSTRUCTORS = {
    "cosine": Schedule.cosine,
    "flow_matching": Schedule.flow_matching,
    "linear": Schedule.linear,
    "natural": Schedule.natural,
    "scaled_linear": Schedule.scaled_linear,
    "sigmoid": Schedule.sigmoid,
}
# Every parameter of these, and what it means.
PARAMETERS = {
    "s": "cosine: the offset that enlarges the first steps",
    "shift": "flow_matching: above 1, more of the time is spent in noise",
    "beta_start": "linear, scaled_linear: the rate of noise at the image",
    "beta_end": "linear, scaled_linear: the rate of noise at the end",
    "start": "sigmoid: where the curve begins",
    "end": "sigmoid: where the curve ends",
    "temperature": "sigmoid: how soft the curve is",
}
WORDS = """\
words:
  t      how noised an image is: 0 is the image, the last time is pure noise. A named schedule ends at t = 1 (the
         natural one never), a diffusers scheduler counts its timesteps, 1000 as a rule. Generation runs backwards.
  level  how often the sides of an image are halved: 0 is full resolution; 64x64 pixels are one pixel at level 6.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 after one line on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (ImportError, OSError, TypeError, ValueError) as error:
        print("reschrom:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def _chromatogram(arguments: argparse.Namespace) -> int:
    suffix = arguments.out.suffix
    if suffix not in (".png", ".svg", ".csv", ".json"):
        raise ValueError(f"--out must end in .png, .svg, .csv or .json; got {arguments.out}")
    schedule = _schedule(arguments)
    end = schedule.end if arguments.until is None else arguments.until
    if not schedule.start < end < float("inf"):
        raise ValueError(f"--until must say a time after {schedule.start:g} where the plot begins; got {end:g}")
    edges = np.linspace(schedule.start, end, 1001)
    predicted = Chromatogram.predicted(schedule, arguments.size, arguments.spectrum, edges, schedule.name)
    if suffix == ".json":
        predicted.save(arguments.out)
        return 0
    with replacing(arguments.out) as temporary:
        if suffix == ".csv":
            predicted.to_dataframe().to_csv(temporary, index=False)
        else:
            from reschrom import plots

            plots.chromatogram(predicted).savefig(temporary, dpi=200)
    return 0


def _time(arguments: argparse.Namespace) -> int:
    schedule, t, level = _schedule(arguments), arguments.t, arguments.level
    alpha, tau = schedule.alpha(t), matched_time(schedule, t, level)
    times = 2**level
    for name, value, meaning in [
        ("alpha", alpha, f"signal power at t = {t:g}, noise power is 1 - alpha"),
        ("tau", tau, f"the time at which an image {times} times smaller is as noisy as this one after averaging"),
        ("alpha at tau", schedule.alpha(tau), "signal power there"),
        ("lambda", intensity_scale(alpha, level), "brightness factor that makes the averaged image an ordinary one"),
    ]:
        print(f"{name:<12} = {float(value):<12.6g} {meaning}")
    return 0


def _book(arguments: argparse.Namespace) -> int:
    from reschrom import book

    return book.build(arguments.profile, arguments.cores)


def _schedule(arguments: argparse.Namespace) -> Schedule:
    """Build the schedule that the arguments name, or read it from the files of a diffusers scheduler."""
    name = arguments.schedule
    settings = {key: getattr(arguments, key) for key in PARAMETERS if getattr(arguments, key) is not None}
    accepted = inspect.signature(CONSTRUCTORS[name]).parameters if name in CONSTRUCTORS else {}
    for key in settings:
        if key not in accepted:
            raise ValueError(f"--{key.replace('_', '-')} belongs to another schedule ({PARAMETERS[key]}); got {name}")
    return CONSTRUCTORS[name](**settings) if name in CONSTRUCTORS else _from_files(Path(name))


def _from_files(path: Path) -> Schedule:
    candidates = [path, path / "scheduler_config.json", path / "scheduler" / "scheduler_config.json"]
    config_path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if config_path is None:
        raise ValueError(
            f"--schedule must be one of {', '.join(CONSTRUCTORS)}, or the path of a diffusers scheduler, its folder or "
            f"its scheduler_config.json; got {path}"
        )
    import diffusers

    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    except ImportError:  # the class needs a package that is not here, and says which
        raise
    except Exception as error:  # whatever a class of diffusers makes of a wrong setting
        raise ValueError(f"{config_path} does not describe a diffusers scheduler: {error}") from error
    return Schedule.from_diffusers(scheduler)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        """Leave with one line, where argparse would print the usage first."""
        self.exit(2, f"reschrom: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reschrom",
        description="Which resolution does a diffusion model generate at each step?",
        epilog=f"{WORDS}\neach command has its own help: reschrom time --help",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    chromatogram = _command(
        commands,
        "chromatogram",
        "draw or tabulate which resolution is generated at each time",
        "reschrom chromatogram --schedule cosine --size 64 --out chromatogram.png",
    )
    _add_schedule(chromatogram)
    chromatogram.add_argument("--size", type=int, required=True, help="pixels along one side, a power of two")
    chromatogram.add_argument(
        "--out", type=Path, required=True, help="the file to write: .png, .svg, .csv (shares) or .json (everything)"
    )
    chromatogram.add_argument(
        "--spectrum",
        type=float,
        nargs="+",
        metavar="S",
        help="strength of the images' signal in each resolution, finest first: the variance of a coefficient, one "
        "number for every level from 0 to a single pixel. Without it the paper's formula is used, which needs none",
    )
    chromatogram.add_argument("--until", type=float, help="the last time to show, needed by the natural schedule only")
    chromatogram.set_defaults(run=_chromatogram)

    time = _command(
        commands,
        "time",
        "tell at what time a smaller image is as noisy as the averaged large one",
        "reschrom time --schedule cosine --level 1 --t 0.5",
    )
    _add_schedule(time)
    time.add_argument("--level", type=int, required=True, help="how often the sides are halved: 0, 1, 2, ...")
    time.add_argument("--t", type=float, required=True, help="time of the large image")
    time.set_defaults(run=_time)

    book = _command(
        commands,
        "book",
        "run every notebook and build the book, from a checkout of the repository",
        "reschrom book --profile cpu --cores 2",
    )
    book.add_argument("--profile", default="cpu", help="parameters of the run, profiles/PROFILE.yaml (default: cpu)")
    book.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="notebooks to run side by side")
    book.set_defaults(run=_book)
    return parser


def _command(commands: "argparse._SubParsersAction[_Parser]", name: str, summary: str, example: str) -> _Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"{WORDS}\nexample:\n  {example}",
    )


def _add_schedule(command: _Parser) -> None:
    command.add_argument(
        "--schedule",
        required=True,
        metavar="NAME|PATH",
        help=f"{', '.join(CONSTRUCTORS)}; or a diffusers scheduler or pipeline on disk, its folder or its JSON file",
    )
    settings = command.add_argument_group("settings of one schedule, all with a usual value")
    for name, meaning in PARAMETERS.items():
        settings.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=meaning)


if __name__ == "__main__":
    sys.exit(main())
