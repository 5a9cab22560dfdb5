"""What the instrument says of every case of the zoo, next to what is true: right, refused, wrong or crashed."""

import ast
import functools
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reschrom
from reschrom import Chromatograph, Schedule
from zoo import CASES, VARIATIONS
from zoo.truth import Moment, Truth, band_energies, recorded, temporal_parts

RIGHT = "right"
WRONG, CRASHED = "wrong: ", "crashed: "
PRECISION = 1e-4


@functools.cache
def _pipeline(name: str) -> Any:
    with warnings.catch_warnings():  # diffusers warns of what it builds
        warnings.simplefilter("ignore")
        return CASES[name].build()


def outputs(value: Any) -> list[np.ndarray]:
    """Return all arrays and pictures within what a pipeline returns."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return []
    if isinstance(value, dict):
        return [array for each in value.values() for array in outputs(each)]
    if isinstance(value, (list, tuple)):
        return [array for each in value for array in outputs(each)]
    return [value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)]


def recording(name: str) -> list[Moment]:
    """Return all that a run of a case did."""
    case = CASES[name]
    variation = "default" if "default" in case.supports else min(case.supports)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with recorded(_pipeline(name), case, case.size) as truth:
            _pipeline(name)(**case.variation(variation))
    return truth.moments


@functools.cache
def verdict(name: str, variation: str) -> str:
    """Run one variation of a case with and without the instrument: RIGHT, one line of refusal, WRONG or CRASHED."""
    case = CASES[name]
    return judged(name, lambda: case.variation(variation), case.other if VARIATIONS[variation][1] else case.size)


def judged(name: str, arguments: Callable[[], dict[str, Any]], size: tuple[int, int]) -> str:
    """Do the same with any arguments of a call, of pictures of a size."""
    case, pipeline = CASES[name], _pipeline(name)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        with recorded(pipeline, case, size) as truth:
            without = outputs(pipeline(**arguments()))
        torch.manual_seed(0)
        try:
            with Chromatograph(pipeline, keep="bands") as meter:
                inside = outputs(pipeline(**arguments()))
            differs = difference(meter, truth, pipeline) if not case.refused else ""
        except (TypeError, ValueError) as error:
            return _refusal(error)
        except Exception as error:
            return _crash(error)
    if len(without) != len(inside) or not all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(without, inside, strict=True)
    ):
        return WRONG + "the pipeline made something else"
    if case.refused:
        return WRONG + f"measured, although {case.refused}"
    return WRONG + differs if differs else RIGHT


def _refusal(error: Exception) -> str:
    """Return the reason of a refusal; what the instrument does not raise itself, in one line, is a crash."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error)
    ours = Path(reschrom.__file__).parent in Path(where.filename).parents and where.lineno in _raises(where.filename)
    return text if ours and text and "\n" not in text else _crash(error)


@functools.cache
def _raises(filename: str) -> set[int]:
    """Return the lines of a file that raise an exception."""
    statements = ast.walk(ast.parse(Path(filename).read_text()))
    ranges = [range(each.lineno, each.end_lineno + 1) for each in statements if isinstance(each, ast.Raise)]
    return set(chain.from_iterable(ranges))


def _crash(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{CRASHED}{type(error).__name__}: {' '.join(str(error).split())} ({where.filename}, line {where.lineno})"


def difference(meter: Any, truth: Truth, pipeline: Any) -> str:
    """Say in what a measurement differs from the truth; empty where it does not."""
    if meter.images != truth.images:
        return f"{meter.images} images, which are {truth.images}"
    steps = truth.distinct
    if len(meter.kept) != len(steps):
        return f"{len(meter.kept)} steps, which are {len(steps)}"
    try:
        alphas = Schedule.from_diffusers(pipeline.scheduler).alpha(meter.timesteps)
    except (TypeError, ValueError):  # this kind of time is known to the instrument alone
        alphas = np.array([step.alpha for step in steps])
    for index, (record, step, alpha) in enumerate(zip(meter.kept, steps, alphas, strict=True)):
        size = np.linalg.norm(step.x_t)
        straight = step.x_t / (np.sqrt(step.alpha) + np.sqrt(1 - step.alpha))
        told = {
            "alpha": _apart(np.asarray(alpha), np.asarray(step.alpha), 1e-3),
            "x_t": min(_apart(record.x_t, each, 1e-2 * size) for each in (step.x_t, straight)),
            "estimate": _apart(record.estimate, step.clipped, 1e-2 * size),
        }
        if (record.guidance is None) != (step.guidance is None):
            return f"guidance is {'not ' if record.guidance is None else ''}seen"
        if step.guidance is not None:
            told["guidance"] = _apart(record.guidance, step.guidance, 1e-4 * size)
        for what, apart in told.items():
            if not apart <= (PRECISION if what != "alpha" else 1e-5):
                return f"{what} at step {index} is off by {apart:.2g}"
    guided = all(step.guidance is not None for step in steps)
    said = (_of_shares(meter, steps) if guided else "") or _of_growth(meter, steps)
    return said or (_of_frames(meter, steps, guided) if steps[0].x_t.ndim == 5 else _of_images(meter))


def _of_growth(meter: Any, steps: Any) -> str:
    if len(steps) < 2:
        return ""
    images = len(steps[0].clipped)
    moved = [np.sum((after.clipped - before.clipped) ** 2) / images for before, after in pairwise(steps)]
    if not _apart(meter.changes.rates.sum(axis=0)[::-1], np.array(moved), 1e-9) <= 1e-3:
        return "the energy of a change of the estimate is off"
    # The fit that never falls during generation keeps the whole growth of an estimate that never falls.
    grown = (meter.growth.rates * np.diff(meter.growth.edges)).sum()
    return "" if np.isfinite(grown) and grown >= 0 else "growth is not finite"


def _of_shares(meter: Any, steps: Any) -> str:
    # The share does not depend on what the outputs mean, so it is known where the noise is (sigma = 1 of a flow).
    energies = np.stack([band_energies(step.spread) for step in steps], axis=1)
    totals = np.array([np.sum(step.guidance**2) for step in steps])
    rates = meter.guidance.rates[:, ::-1]
    told = totals > 1e-12 * totals.max()  # where the noise is known its prediction has no energy to compare
    apart = np.abs(_parts(rates[:, told].sum(axis=0)) - _parts(totals[told])).max()
    if not apart <= PRECISION:
        return f"the energy of guidance at a time is off by {apart:.2g}"
    if len(energies) > 1 and len(energies) == len(rates):
        apart = np.abs(meter.guidance.shares[:, ::-1] - _parts(energies)).max()
        if not apart <= PRECISION:
            return f"a share of guidance is off by {apart:.2g}"
    return ""


def _of_images(meter: Any) -> str:
    try:
        meter.temporal()
    except ValueError as error:
        return "" if re.fullmatch(r"only videos have temporal bands; \w+ makes images", str(error)) else str(error)
    return "images have temporal bands"


def _of_frames(meter: Any, steps: Any, guided: bool) -> str:
    """Say in what the energies of temporal bands differ, at every resolution and at all."""
    resolutions, quantities = meter.chromatogram.band_names, {}
    if len(steps) > 1:
        quantities["changes"] = [after.clipped - before.clipped for before, after in pairwise(steps)]
    if guided:
        quantities["guidance"] = [step.guidance for step in steps]
    for quantity, videos in quantities.items():
        spatial, temporal = getattr(meter, quantity), meter.temporal(quantity)
        every = np.stack([meter.temporal(quantity, each).rates for each in resolutions])
        scale = spatial.rates.sum(axis=0)
        if not np.abs(every.sum(axis=0) - temporal.rates).max() <= 1e-12 * scale.max():
            return f"the temporal bands of {quantity} at all resolutions are not those of the videos"
        if not (np.abs(every.sum(axis=1) - spatial.rates) <= 1e-5 * scale).all():
            return f"the temporal bands of {quantity} at a resolution do not sum to its energy"
        # Shape (resolutions, temporal bands, steps); of one resolution where the truth knows no more.
        true = np.array([[band_energies(part) for part in temporal_parts(video)] for video in videos]).T
        told = (every if len(true) == len(resolutions) else temporal.rates[None])[..., ::-1]
        totals = true.sum(axis=(0, 1))
        known = totals > 1e-12 * totals.max()  # as of shares
        apart = np.abs(told / told.sum(axis=(0, 1)) - true / np.where(known, totals, np.inf))[..., known].max()
        if not apart <= 1e-3:
            return f"a temporal band of {quantity} is off by {apart:.2g}"
    return ""


def _parts(energies: np.ndarray) -> np.ndarray:
    return energies / energies.sum(axis=0)


def _apart(measured: np.ndarray, true: np.ndarray, least: float) -> float:
    """Return the distance of two arrays in units of the true one, or of `least` where that is more."""
    if measured.shape != true.shape:
        return np.inf
    if not np.isfinite(true).all():
        return 0.0
    distance = np.linalg.norm(np.asarray(measured, dtype=np.float64) - true)
    return float(distance / max(np.linalg.norm(true), least))


def cells() -> Iterator[tuple[str, str]]:
    """Yield every case with every variation that it can do."""
    for name, case in CASES.items():
        yield from ((name, variation) for variation in VARIATIONS if variation in case.supports)


def measured() -> dict[str, dict[str, str]]:
    """Return the whole matrix: case, variation, verdict."""
    matrix: dict[str, dict[str, str]] = {}
    for name, variation in cells():
        matrix.setdefault(name, {})[variation] = verdict(name, variation)
    return matrix


def classes(names: Iterable[str]) -> set[str]:
    """Return the pipeline classes of cases."""
    return {name.split(",")[0] for name in names}


def rendered(matrix: dict[str, dict[str, str]]) -> str:
    """Return a matrix in Markdown: the pipelines that are right in all that they can do, and a table of the others."""
    rows = sorted(matrix.items(), key=lambda item: item[0].casefold())
    right = [name for name, row in rows if set(row.values()) == {RIGHT}]
    said = [text for row in matrix.values() for text in row.values()]
    lines = [
        f"There are {len(rows)} pipelines of {len(classes(matrix))} classes. In {len(said)} runs, {said.count(RIGHT)} "
        f"were measured rightly, and {len(said) - said.count(RIGHT)} were refused, for the reasons in the table. "
        "None was wrong.",
        "",
        f"**Right in every run** ({len(right)}): {'; '.join(right)}.",
        "",
        "| refused | in which runs | why |",
        "| --- | --- | --- |",
    ]
    for name, row in rows:
        for reason in dict.fromkeys(_reason(text) for text in row.values() if text != RIGHT):
            runs = [each for each, text in row.items() if text != RIGHT and _reason(text) == reason]
            lines.append(f"| {name} | {'all' if len(runs) == len(row) else ', '.join(runs)} | {reason} |")
    return "\n".join([*lines, ""])


def _reason(text: str) -> str:
    """Return a refusal without the sizes of this one run, and without the name that stands at its end."""
    text = re.sub(r"its \d+ tokens", "its tokens", re.sub(r"; got \w+$", "", text))
    return re.sub(r"\[?\(\d[\d, ()]*\)\]?", "...", re.sub(r"\d+%", "much", text)).replace("_", "\\_")
