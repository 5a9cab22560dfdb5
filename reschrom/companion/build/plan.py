"""What a build consists of: the notebooks, their parameters under a profile, and the files each one depends on."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from reschrom.companion.build.depends import PACKAGE, dependencies, named_data
from reschrom.companion.build.notebook import code_cells, declared_parameters, read_source
from reschrom.companion.parameters import check_given

DEFAULTS = "defaults"  # the variant of a notebook that nothing overrides; records and every profile share it
EXAMPLE = "`figures/guidance: {seed: 1}`"


class PlanError(ValueError):
    """A profile that does not fit the notebooks."""


@dataclass(frozen=True)
class Plan:
    """Every notebook of the checkout `root`, and the parameters that `profile` sets.

    Notebooks are known by their group and name, such as "figures/fig4".
    """

    root: Path
    profile: str
    overrides: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, root: Path, profile: str) -> "Plan":
        """Read `profiles/PROFILE.yaml`, which maps notebooks to parameters, and check it against the notebooks."""
        path = root / "profiles" / f"{profile}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
            raise PlanError(f"there is no profile {profile!r}; profiles/ holds: {known}")
        file = path.relative_to(root)
        plan = cls(root, profile, _overrides(path, file))
        plan._check(file)
        return plan

    @cached_property
    def notebooks(self) -> list[str]:
        """Every notebook, in alphabetical order."""
        folder = self.root / "notebooks"
        return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("*/*.md"))

    def source(self, notebook: str) -> Path:
        """Return the file that a notebook is written in."""
        return self.root / "notebooks" / f"{notebook}.md"

    def variant(self, notebook: str) -> str:
        """Return the folder of a notebook's run: the profile's, or the defaults' where the profile sets nothing."""
        return self.profile if notebook in self.overrides else DEFAULTS

    def parameters(self, notebook: str, variant: str) -> Mapping[str, Any]:
        """Return the parameters that a variant overrides."""
        return {} if variant == DEFAULTS else self.overrides[notebook]

    def needs(self, notebook: str, variant: str) -> list[str]:
        """Return the files that a notebook's run depends on, relative to the checkout."""
        files = dependencies([*code_cells(self._read(notebook)), "import reschrom.companion.build.execute"], self.root)
        for value in self.parameters(notebook, variant).values():
            files |= named_data(value, self.root)
        return self._relative({self.root / "constraints.txt", *files})

    def book_needs(self) -> list[str]:
        """Return the files that every page depends on: prose, settings, and the package that the pages document."""
        files = {self.root / "_config.yml", self.root / "_toc.yml", *PACKAGE.rglob("*.py")}
        files |= {file for file in (self.root / "book").rglob("*") if file.is_file() and file.suffix != ".pyc"}
        return self._relative(files | {self.source(notebook) for notebook in self.notebooks})

    def _read(self, notebook: str) -> Any:
        return read_source(self.source(notebook))

    def _relative(self, files: set[Path]) -> list[str]:
        return sorted(os.path.relpath(file, self.root) for file in files)

    def _check(self, path: Path) -> None:
        for notebook, values in self.overrides.items():
            if notebook not in self.notebooks:
                raise PlanError(f"{path}: there is no notebook {notebook!r}; known: {', '.join(self.notebooks)}")
            try:
                declared = declared_parameters(self._read(notebook))
            except ValueError as error:
                raise PlanError(f"notebooks/{notebook}.md: {error}") from error
            try:
                check_given(declared, values)
            except (TypeError, ValueError) as error:
                raise PlanError(f"{path}: {notebook!r}: {error}") from error


def _overrides(path: Path, file: Path) -> dict[str, dict[str, Any]]:
    """Return the parameters that a profile overrides, by notebook; errors call it `file`."""
    try:
        overrides = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, RecursionError) as error:
        raise PlanError(f"{file}: expected YAML; it cannot be read: {' '.join(str(error).split())}") from error
    if overrides is None:  # nothing but comments
        return {}
    if not isinstance(overrides, dict):
        raise PlanError(
            f"{file}: expected notebooks with their parameters, as in {EXAMPLE}; got {_described(overrides)}"
        )
    for notebook, values in overrides.items():
        if values is not None and not isinstance(values, dict):
            raise PlanError(f"{file}: expected parameters of {notebook!r}, as in {EXAMPLE}; got {_described(values)}")
        for name, value in (values or {}).items():
            if not _can_be_written_as_json(value):
                raise PlanError(
                    f"{file}: expected text, a number, true, false, null, or a list or mapping of these for "
                    f"{name!r} of {notebook!r}; got {_described(value)}"
                )
    return {notebook: values for notebook, values in overrides.items() if values}


def _described(value: object) -> str:
    """Name the kind of a value that YAML gave, and the value."""
    kinds = {list: "the list", dict: "the mapping", str: "the text", int: "the number", float: "the number"}
    return f"{kinds.get(type(value), f'the {type(value).__name__}')} {value!s}"


def _can_be_written_as_json(value: object) -> bool:
    """Tell whether a value reaches a notebook as it is: parameters travel as JSON."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False
