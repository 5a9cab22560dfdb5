"""The command line: `reschrom chromatogram`, `measure`, `switch`, `train`, `time` and `book`."""

import argparse
import inspect
import json
import sys
from pathlib import Path

import numpy as np

from reschrom._files import replacing
from reschrom.chromatogram import Chromatogram
from reschrom.options import CONSTRUCTORS, PARAMETERS, parser
from reschrom.scaling import intensity_scale, matched_time
from reschrom.schedules import Schedule


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 after one line on standard error."""
    arguments = parser().parse_args(argv)
    try:
        return int(_RUNS[arguments.command](arguments))
    except (ImportError, OSError, TypeError, ValueError) as error:
        print("reschrom:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def _chromatogram(arguments: argparse.Namespace) -> int:
    _check_destination(arguments.out)
    schedule = _schedule(arguments)
    end = schedule.end if arguments.until is None else arguments.until
    if not schedule.start < end < float("inf"):
        raise ValueError(f"--until must say a time after {schedule.start:g} where the plot begins; got {end:g}")
    edges = np.linspace(schedule.start, end, 1001)
    _write(Chromatogram.predicted(schedule, arguments.size, arguments.spectrum, edges, schedule.name), arguments.out)
    return 0


def _measure(arguments: argparse.Namespace) -> int:
    _check_destination(arguments.out)
    from reschrom.sampling import measured

    _write(measured(arguments), arguments.out)
    return 0


def _switch(arguments: argparse.Namespace) -> int:
    from reschrom.sampling import switch_report

    for line in switch_report(arguments):
        print(line)
    return 0


def _check_destination(out: Path) -> None:
    if out.suffix not in (".png", ".svg", ".csv", ".json", ".npz"):
        raise ValueError(f"--out must end in .png, .svg, .csv, .json or .npz; got {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out} cannot be written: there is no folder {out.parent}")


def _write(chromatogram: Chromatogram, out: Path) -> None:
    if out.suffix in (".json", ".npz"):
        chromatogram.save(out)
        return
    with replacing(out) as temporary:
        if out.suffix == ".csv":
            chromatogram.to_dataframe().to_csv(temporary, index=False)
        else:
            from reschrom import plots

            measured = chromatogram.replicates is not None  # and its title must not say what it may not show
            figure = chromatogram.plot() if measured else plots.chromatogram(chromatogram)
            figure.savefig(temporary, dpi=200)


def _train(arguments: argparse.Namespace) -> int:
    import transformers

    from reschrom.training import Recipe, train

    transformers.utils.logging.set_verbosity_error()
    changes = {} if arguments.steps is None else {"steps": arguments.steps}
    recipe = Recipe.load(arguments.config, **changes)
    if recipe.kind != arguments.kind:
        raise ValueError(f"{arguments.config} is a recipe of reschrom train {recipe.kind}; got {arguments.kind}")
    train(recipe, arguments.data, arguments.out, save_every=arguments.save_every, show_every=arguments.show_every)
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


_RUNS = {
    "chromatogram": _chromatogram,
    "measure": _measure,
    "switch": _switch,
    "train": _train,
    "time": _time,
    "book": _book,
}


if __name__ == "__main__":
    sys.exit(main())
