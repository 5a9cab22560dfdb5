"""The noise schedule that a command line names, or the files of a diffusers scheduler that hold one."""

import argparse
import inspect
import json
from pathlib import Path
from typing import Any

from reschrom._files import read_text
from reschrom.theory.schedules import Schedule

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


def schedule_named(arguments: argparse.Namespace) -> Schedule:
    """Build the schedule that the arguments name, or read it from the files of a diffusers scheduler."""
    name = arguments.schedule
    settings = {key: getattr(arguments, key) for key in PARAMETERS if getattr(arguments, key) is not None}
    accepted = inspect.signature(CONSTRUCTORS[name]).parameters if name in CONSTRUCTORS else {}
    for key in settings:
        if key not in accepted:
            raise ValueError(f"--{key.replace('_', '-')} belongs to another schedule ({PARAMETERS[key]}); got {name}")
    if name in CONSTRUCTORS:
        return CONSTRUCTORS[name](**settings)
    return Schedule.from_diffusers(scheduler_on_disk(Path(name)))


def scheduler_on_disk(path: Path) -> Any:
    candidates = [path, path / "scheduler_config.json", path / "scheduler" / "scheduler_config.json"]
    config_path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if config_path is None:
        raise ValueError(
            f"--schedule must be one of {', '.join(CONSTRUCTORS)}, or the path of a diffusers scheduler, its folder or "
            f"its scheduler_config.json; got {path}"
        )
    import diffusers

    try:
        config = json.loads(read_text(config_path))
        return getattr(diffusers, config["_class_name"]).from_config(config)
    except ImportError:  # the class needs a package that is not here, and says which
        raise
    except Exception as error:  # whatever a class of diffusers makes of a wrong setting
        raise ValueError(f"{config_path} does not describe a diffusers scheduler: {error}") from error


def add_schedule(command: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the option that names a schedule, and those that set it."""
    command.add_argument(
        "--schedule",
        required=required,
        metavar="NAME|PATH",
        help=f"{', '.join(CONSTRUCTORS)}; or a diffusers scheduler or pipeline on disk, its folder or its JSON file",
    )
    settings = command.add_argument_group("settings of one schedule, all with a usual value")
    for name, meaning in PARAMETERS.items():
        settings.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=meaning)
