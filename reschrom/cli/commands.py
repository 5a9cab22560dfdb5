"""The command line: `reschrom chromatogram`, `spectrum`, `timesteps`, `measure`, `merge`, `switch`, `train`, `time`."""

import argparse
import csv
import functools
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reschrom import __version__
from reschrom._extras import naming_extra
from reschrom._files import destination, replacing
from reschrom.cli.parser import parser
from reschrom.cli.schedules import CONSTRUCTORS, schedule_named, scheduler_on_disk
from reschrom.design.arguments import last_time, scheduler_arguments
from reschrom.design.schedules import discretised
from reschrom.design.timesteps import designed_timesteps
from reschrom.theory.bands import band_names
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.matching import intensity_scale, matched_time
from reschrom.theory.schedules import Schedule
from reschrom.theory.spectrum import MeasuredSpectrum, Spectrum, SpectrumSums, variances

if TYPE_CHECKING:
    from reschrom.plots import Sample


# What a library says at length is cut; it comes last.
_LONGEST = 600


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 after one line on standard error."""
    arguments = parser().parse_args(argv)
    try:
        with naming_extra(f"reschrom {arguments.command}", "train" if arguments.command == "train" else None):
            status = int(_RUNS[arguments.command](arguments))
        sys.stdout.flush()  # a full disk behind it is told here, not after the end
        return status
    except BrokenPipeError:  # whoever read the output has enough
        _give_output_up()
        return 1
    except (ImportError, OSError, TypeError, ValueError) as error:
        _give_output_up()
        return _refused(str(error))
    except MemoryError:
        return _refused("out of memory: ask for less at once, with a smaller --size or --batch")
    except KeyboardInterrupt:
        again = "; the same command goes on from there" if arguments.command in ("measure", "train") else ""
        print(f"reschrom: stopped{again}", file=sys.stderr)
        return 130


def _give_output_up() -> None:
    """Keep the interpreter from writing again, at its end, what could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(why: str) -> int:
    print("reschrom:", textwrap.shorten(why, _LONGEST, placeholder=" ..."), file=sys.stderr)
    return 2


def _chromatogram(arguments: argparse.Namespace) -> int:
    _check_destination(arguments.out)
    schedule = schedule_named(arguments)
    end = schedule.end if arguments.until is None else arguments.until
    if not schedule.start < end < float("inf"):
        raise ValueError(f"--until must say a time after {schedule.start:g} where the plot begins; got {end:g}")
    edges = np.linspace(schedule.start, end, 1001)
    spectrum = _spectrum_given(arguments)
    _write(Chromatogram.predicted(schedule, arguments.size, spectrum, edges, schedule.name), arguments.out)
    return 0


def _spectrum(arguments: argparse.Namespace) -> int:
    if arguments.out is not None:
        _check_destination(arguments.out, kinds=(".json", ".npz"))
    if arguments.shard is not None and (arguments.out is None or arguments.out.suffix != ".npz"):
        raise ValueError(f"with --shard, --out must end in .npz, for reschrom merge; got {arguments.out}")
    from reschrom.images.pictures import Tally, mapped, numbered
    from reschrom.images.sources import BrokenPicture, shown

    about = {"source": Path(arguments.source).name, "pixels": band_names(arguments.size)[0]}
    pipeline = None
    if arguments.model is not None:
        from reschrom.cli.drawing import loaded

        pipeline = loaded(arguments.model)
        about |= {"latents of": Path(arguments.model).name, "seed": str(arguments.seed)}
    about["made by"] = f"reschrom {__version__}, reschrom spectrum"
    tally = Tally()
    settings = {"count": arguments.images, "workers": arguments.workers, "shard": arguments.shard or (0, 1)}
    settings |= {"skip_broken": arguments.skip_broken, "tally": tally}
    reading = functools.partial(mapped, arguments.source, arguments.size, **settings)
    summed = functools.partial(SpectrumSums.of, source=about["source"])
    if pipeline is None:
        sums = reading(each=summed)
    else:  # others read, and this process encodes
        from reschrom.pipelines.latents import encoded

        batches = reading(each=numbered)
        sums = (summed(next(encoded(pipeline, [batch], arguments.seed, first)), first) for first, batch in batches)
    try:
        measured = SpectrumSums.merge(sums).measured(about)
    except BrokenPicture as error:
        raise ValueError(f"{error}; --skip-broken measures the others") from error
    if arguments.shard is None and measured.variance.max() < _NOTHING:
        raise ValueError(f"the {measured.images} pictures of {shown(arguments.source)} are all the same")
    for line in tally.lines():
        print(f"reschrom: {line}", file=sys.stderr)
    _print_spectrum(measured)
    if arguments.out is not None:
        measured.save(arguments.out)
    return 0


# A variance that only rounding makes: a step of one colour in one pixel of a million large pictures makes more.
_NOTHING = 1e-24


def _print_spectrum(measured: MeasuredSpectrum) -> None:
    print(f"{'band':<10}{'variance':>12}{'95 % interval':>26}   ({measured.images} images)")
    columns = (measured.variance, measured.lower, measured.upper)
    for name, variance, low, high in zip(band_names(measured.size), *columns, strict=True):
        print(f"{name:<10}{variance:>12.5g}{low:>13.5g}{high:>13.5g}")


def _timesteps(arguments: argparse.Namespace) -> int:
    if (arguments.schedule is None) == (arguments.model is None):
        raise ValueError("timesteps are chosen for a --schedule or for a --model; give one of them")
    if arguments.model is not None:
        for option in ("size", "spectrum"):
            if getattr(arguments, option) is not None:
                raise ValueError(f"--{option} goes with --schedule; with --model the signal is measured")
        from reschrom.cli.drawing import measured_growth

        chromatogram, scheduler = measured_growth(arguments)
        schedule = Schedule.from_diffusers(scheduler)
    else:
        scheduler = None if arguments.schedule in CONSTRUCTORS else scheduler_on_disk(Path(arguments.schedule))
        schedule = schedule_named(arguments)
        if arguments.size is None:
            raise ValueError("--schedule needs the --size of the images")
        if arguments.schedule in CONSTRUCTORS:
            schedule = discretised(schedule)
        whole = np.arange(schedule.start, schedule.end + 1)
        chromatogram = Chromatogram.predicted(schedule, arguments.size, _spectrum_given(arguments), whole)
    if scheduler is None and arguments.mu is not None:
        raise ValueError("--mu goes with a diffusers scheduler that shifts its sigmas by the size of the image")
    settings = {"equal": arguments.equal, "noise_error": arguments.noise_error}
    last = None if scheduler is None else last_time(scheduler)
    chosen = designed_timesteps(chromatogram, schedule, arguments.steps, arguments.weights, last=last, **settings)
    given: Any = {"timesteps": chosen} if scheduler is None else scheduler_arguments(scheduler, chosen, arguments.mu)
    for name, values in given.items():
        print(f"{name}={values if isinstance(values, list) else values.round(8).tolist()}")
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
    _check_destination(arguments.out, ".html")
    if arguments.preview is not None:
        folder = arguments.preview
        destination(folder / "step-001.png" if folder.exists() else folder)
    spectrum = _spectrum_given(arguments)
    if spectrum is not None:
        variances(spectrum)  # a file that is none is refused before anything is drawn
    from reschrom.cli.measuring import measure

    def write(chromatogram: Chromatogram, sample: "Sample | None") -> None:
        _write_measured(chromatogram, arguments.out, spectrum, sample)

    measure(arguments, spectrum, write)
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    spectra = [part for part in arguments.parts if _holds_spectrum(part)]
    if spectra:
        if len(spectra) < len(arguments.parts):
            raise ValueError(f"{spectra[0]} holds a spectrum and others do not: these do not merge")
        _check_destination(arguments.out, kinds=(".json", ".npz"))
        measured = MeasuredSpectrum.merge([MeasuredSpectrum.load(part) for part in arguments.parts])
        _print_spectrum(measured)
        measured.save(arguments.out)
        return 0
    _check_destination(arguments.out, ".html")
    merged = Chromatogram.merge([Chromatogram.load(part) for part in arguments.parts])
    _write_measured(merged, arguments.out, _spectrum_given(arguments))
    return 0


def _holds_spectrum(path: Path) -> bool:
    """Tell a file of `reschrom spectrum` from one of `reschrom measure`."""
    try:
        MeasuredSpectrum.load(path)
    except ValueError:
        return False
    return True


def _write_measured(
    chromatogram: Chromatogram, out: Path, spectrum: Spectrum | None, sample: "Sample | None" = None
) -> None:
    """Write a measurement in the form that the file's name says, and say on the terminal what it shows."""
    from reschrom import plots
    from reschrom.plots.words import paragraph

    paper = chromatogram.expected()
    theories = [paper] if spectrum is None else [paper, chromatogram.expected(spectrum)]
    if out.suffix == ".html":
        with replacing(out) as temporary:
            temporary.write_text(plots.report(chromatogram, theories, sample), encoding="utf-8")
    elif out.suffix in (".png", ".svg"):
        with replacing(out) as temporary:
            plots.ridge_map(chromatogram, theories).savefig(temporary, dpi=200)
    else:
        _write(chromatogram, out)
    text = f"{paragraph(chromatogram, paper)} Written to {out}."
    print(textwrap.fill(text, min(shutil.get_terminal_size().columns, 100), break_on_hyphens=False))


def _switch(arguments: argparse.Namespace) -> int:
    if arguments.out is not None:
        _check_destination(arguments.out, kinds=(".png", ".svg"))
    from reschrom.cli.switching import switched

    answer = switched(arguments)
    for line in answer.lines:
        print(line)
    if arguments.out is not None:
        with replacing(arguments.out) as temporary:
            answer.figure().savefig(temporary, dpi=200)
    return 0


_KINDS = (".png", ".svg", ".csv", ".json", ".npz")


def _check_destination(out: Path, *more: str, kinds: tuple[str, ...] = _KINDS) -> None:
    *others, last = (*more, *kinds)
    if out.suffix not in (*others, last):
        raise ValueError(f"--out must end in {', '.join(others)} or {last}; got {out}")
    destination(out)


def _write(chromatogram: Chromatogram, out: Path) -> None:
    if out.suffix in (".json", ".npz"):
        chromatogram.save(out)
        return
    with replacing(out) as temporary:
        if out.suffix == ".csv":
            _write_table(chromatogram, temporary)
        else:
            from reschrom import plots

            plots.chromatogram(chromatogram).savefig(temporary, dpi=200)


def _write_table(chromatogram: Chromatogram, path: Path) -> None:
    """Write what `Chromatogram.to_dataframe` holds, without pandas."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["time", *chromatogram.band_names])
        table.writerows(np.column_stack([chromatogram.times, chromatogram.shares.T]).tolist())


def _train(arguments: argparse.Namespace) -> int:
    import transformers

    from reschrom.train import Recipe, train
    from reschrom.train.budget import train_all

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments.kind == "all":
        train_all(arguments.recipes, arguments.data, arguments.out, arguments.budget)
        return 0
    changes = {} if arguments.steps is None else {"steps": arguments.steps}
    recipe = Recipe.load(arguments.config, **changes)
    if recipe.kind != arguments.kind:
        raise ValueError(f"{arguments.config} is a recipe of reschrom train {recipe.kind}; got {arguments.kind}")
    train(recipe, arguments.data, arguments.out, save_every=arguments.save_every, show_every=arguments.show_every)
    return 0


def _time(arguments: argparse.Namespace) -> int:
    schedule, t, level = schedule_named(arguments), arguments.t, arguments.level
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


_RUNS = {
    "chromatogram": _chromatogram,
    "spectrum": _spectrum,
    "timesteps": _timesteps,
    "measure": _measure,
    "merge": _merge,
    "switch": _switch,
    "train": _train,
    "time": _time,
}
