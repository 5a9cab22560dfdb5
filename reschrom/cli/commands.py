"""The command line: `reschrom chromatogram`, `spectrum`, `timesteps`, `measure`, `switch`, `train`, `time`."""

import argparse
import csv
import inspect
import json
import sys
from pathlib import Path

import numpy as np

from reschrom import __version__
from reschrom._extras import naming_extra
from reschrom._files import replacing
from reschrom.cli.parser import CONSTRUCTORS, PARAMETERS, parser
from reschrom.design.schedules import discretised
from reschrom.design.timesteps import designed_timesteps
from reschrom.theory.bands import band_names
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.matching import intensity_scale, matched_time
from reschrom.theory.schedules import Schedule
from reschrom.theory.spectrum import Spectrum, measure_spectrum


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 after one line on standard error."""
    arguments = parser().parse_args(argv)
    try:
        with naming_extra(f"reschrom {arguments.command}", "train" if arguments.command == "train" else None):
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
    spectrum = _spectrum_given(arguments)
    _write(Chromatogram.predicted(schedule, arguments.size, spectrum, edges, schedule.name), arguments.out)
    return 0


def _spectrum(arguments: argparse.Namespace) -> int:
    _check_folder(arguments.out or Path())
    from reschrom.images.pictures import stream

    if arguments.images is not None and arguments.images < 2:
        raise ValueError(f"--images must be 2 or more; got {arguments.images}")
    images = stream(arguments.source, arguments.size, arguments.images)
    about = {"source": Path(arguments.source).name, "pixels": band_names(arguments.size)[0]}
    if arguments.model is not None:
        from reschrom.cli.drawing import loaded
        from reschrom.pipelines.latents import encoded

        images = encoded(loaded(arguments.model), images, arguments.seed)
        about |= {"latents of": Path(arguments.model).name, "seed": str(arguments.seed)}
    measured = measure_spectrum(images, {**about, "made by": f"reschrom {__version__}, reschrom spectrum"})
    print(f"{'band':<10}{'variance':>12}{'95 % interval':>26}   ({measured.images} images)")
    columns = (measured.variance, measured.lower, measured.upper)
    for name, variance, low, high in zip(band_names(measured.size), *columns, strict=True):
        print(f"{name:<10}{variance:>12.5g}{low:>13.5g}{high:>13.5g}")
    if arguments.out is not None:
        measured.save(arguments.out)
    return 0


def _timesteps(arguments: argparse.Namespace) -> int:
    if (arguments.schedule is None) == (arguments.model is None):
        raise ValueError("timesteps are chosen for a --schedule or for a --model; give one of them")
    if arguments.model is not None:
        for option in ("size", "spectrum"):
            if getattr(arguments, option) is not None:
                raise ValueError(f"--{option} goes with --schedule; with --model the signal is measured")
        from reschrom.cli.drawing import measured_growth

        chromatogram, schedule = measured_growth(arguments)
    else:
        schedule = _schedule(arguments)
        if arguments.size is None:
            raise ValueError("--schedule needs the --size of the images")
        if arguments.schedule in CONSTRUCTORS:
            schedule = discretised(schedule)
        whole = np.arange(schedule.start, schedule.end + 1)
        chromatogram = Chromatogram.predicted(schedule, arguments.size, _spectrum_given(arguments), whole)
    print(designed_timesteps(chromatogram, schedule, arguments.steps, arguments.weights, arguments.equal))
    return 0


def _spectrum_given(arguments: argparse.Namespace) -> Spectrum | None:
    """Return what --spectrum says: numbers, or the file that holds them."""
    given = arguments.spectrum
    if given is None:
        return None
    try:
        return [float(number) for number in given]
    except ValueError:
        if len(given) > 1:
            raise ValueError(f"--spectrum must be one file, or numbers; got {' '.join(given)}") from None
        return Path(given[0])


def _measure(arguments: argparse.Namespace) -> int:
    _check_destination(arguments.out)
    from reschrom.cli.drawing import measured

    _write(measured(arguments), arguments.out)
    return 0


def _switch(arguments: argparse.Namespace) -> int:
    from reschrom.cli.drawing import switch_report

    for line in switch_report(arguments):
        print(line)
    return 0


def _check_destination(out: Path) -> None:
    if out.suffix not in (".png", ".svg", ".csv", ".json", ".npz"):
        raise ValueError(f"--out must end in .png, .svg, .csv, .json or .npz; got {out}")
    _check_folder(out)


def _check_folder(out: Path) -> None:
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out} cannot be written: there is no folder {out.parent}")


def _write(chromatogram: Chromatogram, out: Path) -> None:
    if out.suffix in (".json", ".npz"):
        chromatogram.save(out)
        return
    with replacing(out) as temporary:
        if out.suffix == ".csv":
            _write_table(chromatogram, temporary)
        else:
            from reschrom import plots

            measured = chromatogram.replicates is not None  # and its title must not say what it may not show
            figure = chromatogram.plot() if measured else plots.chromatogram(chromatogram)
            figure.savefig(temporary, dpi=200)


def _write_table(chromatogram: Chromatogram, path: Path) -> None:
    """Write what `Chromatogram.to_dataframe` holds, without pandas."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["time", *chromatogram.band_names])
        table.writerows(np.column_stack([chromatogram.times, chromatogram.shares.T]).tolist())


def _train(arguments: argparse.Namespace) -> int:
    import transformers

    from reschrom.train import Recipe, train

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
    "spectrum": _spectrum,
    "timesteps": _timesteps,
    "measure": _measure,
    "switch": _switch,
    "train": _train,
    "time": _time,
}
