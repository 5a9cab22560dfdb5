"""What a clone must hold: one set of versions, links that lead somewhere, nothing that ties it to one machine."""

import ast
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reschrom._files import read_json
from reschrom.cli.commands import main
from reschrom.companion.build.execute import ENVIRONMENT
from reschrom.companion.build.notebook import declared_parameters, read_source
from reschrom.train.recipe import Recipe

ROOT = Path(__file__).parent.parent
TEXT = {".cff", ".cfg", ".css", ".html", ".ipynb", ".js", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml", ""}


def tracked(*patterns):
    """Return the tracked text files of the checkout, those not yet committed with them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if Path(name).suffix in TEXT and (ROOT / name).is_file()]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def declared(*extras):
    """Return the distributions that the project asks for, with those of some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    asked = [Requirement(line) for lines in lists for line in lines]
    others = {extra for each in asked if each.name == "reschrom" for extra in each.extras}
    names = {canonicalize_name(each.name) for each in asked} - {"reschrom"}
    return names | (declared(*others) if others else set())


def imported(path):
    """Return the names of the packages that a file imports, the standard library's left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)


def test_every_version_is_pinned():
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", pin) for pin in pins())
    assert "torch==2.13.0" in pins()
    assert "jupyter-book==1.0.4.post1" in pins()


def test_everything_the_project_asks_for_is_pinned():
    asked = declared("book", "test")
    assert {"numpy", "torch", "pandas", "pyyaml", "papermill", "mypy"} <= asked
    assert asked <= {canonicalize_name(pin.split("==")[0]) for pin in pins()}


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("folders", "but", "extras"),
    [
        (["reschrom/theory", "reschrom/plots"], [], ["data"]),
        (["reschrom/denoisers", "reschrom/images"], [], ["data"]),
        (["reschrom"], ["reschrom/companion", "reschrom/train"], ["data", "diffusers"]),
        (["reschrom/train"], [], ["train"]),
        (["reschrom/companion", "book/_ext"], [], ["book"]),
        (["examples"], [], ["diffusers", "data"]),
        (["tests", "benchmarks"], [], ["book", "test"]),
    ],
    ids=["theory", "pictures", "package", "training", "book", "examples", "tests"],
)
def test_everything_imported_is_asked_for(folders, but, extras):
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    files = [path for path in files if not any(path.is_relative_to(ROOT / folder) for folder in but)]
    names = {name for path in files for name in imported(path)} - {
        "reschrom",
        *(path.stem for path in files),
        *(path.parent.name for path in files),
    }
    distributions = importlib.metadata.packages_distributions()
    asked = declared(*extras)
    assert names
    assert [name for name in sorted(names) if not asked & set(map(canonicalize_name, distributions[name]))] == []


def test_conda_installs_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (by_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert by_pip[:-1] == pins()
    assert by_pip[-1] == "-e .[book,test]"


@pytest.mark.lasting
def test_no_file_names_a_place_on_one_machine():
    elsewhere = re.compile(r"(?<![\w.])/(?:home|root|Users|work)/\S*")
    files = [path for path in tracked() if path.name not in ("test_layout.py", "test_records.py")]  # they look for it
    assert [f"{path.name}: {found}" for path in files for found in elsewhere.findall(path.read_text())] == []


def test_no_file_is_larger_than_16_mib():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in names.split("\0") if name and (ROOT / name).is_file()}
    assert sizes
    assert [name for name, size in sizes.items() if size > 16 * 2**20] == []


def test_pages_fetch_nothing_from_elsewhere():
    pattern = re.compile(
        r"cdn\.|jsdelivr|unpkg|cdnjs|googleapis|(?:src|href)=[\"'](?:https?:)?//[^\"']+\.(?:js|css|woff2?)"
    )
    files = [path for path in tracked("book", "notebooks", "_config.yml") if path.suffix != ".ipynb"]
    assert files
    assert [str(path.relative_to(ROOT)) for path in files if pattern.search(path.read_text())] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_inside_the_repository_lead_somewhere(name):
    text = re.sub(r"^```.*?^```", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    broken = [link for link in targets if "://" not in link and not (ROOT / link.split("#")[0]).exists()]
    assert broken == []


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".ci/run"])
def test_what_a_visitor_looks_for_is_there(name):
    assert (ROOT / name).stat().st_size > 0


def test_records_are_checked_under_the_settings_they_were_made_under():
    (line,) = re.findall(r"^SETTINGS := (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert dict(setting.split("=", 1) for setting in line.split()).items() <= ENVIRONMENT.items()


def test_every_target_that_the_texts_name_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    texts = [path.read_text() for path in tracked("*.md", ".ci", ".github")]
    named = {target for text in texts for target in re.findall(r"(?:`|^|run: |&& )make ([a-z]+)", text, re.MULTILINE)}
    assert {"book", "test", "record", "serve"} <= named
    assert named <= targets


def test_every_workflow_can_be_read_and_needs_no_secret():
    workflows = {path.stem: path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    assert set(workflows) == {"newest", "pages", "release", "test"}
    # YAML reads the key `on` as a truth value.
    events = {name: set(yaml.safe_load(text)[True]) for name, text in workflows.items()}
    assert events["test"] == {"push", "pull_request"}
    assert events["newest"] == {"schedule", "workflow_dispatch"}, "it gates nothing"
    assert events["release"] == {"push", "workflow_dispatch"}
    assert ".ci/run" in workflows["test"]
    assert not [name for name, text in workflows.items() if "secrets." in text]


def test_contributing_maps_every_room_and_its_commands_lead_somewhere():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.split("## The rooms")[1].split("## ")[0]
    rooms = [room for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for room in re.findall(r"`(\w+)/`", row)]
    folders = [path.parent.name for path in (ROOT / "reschrom").glob("*/__init__.py")]
    assert sorted(rooms) == sorted(folders)
    for place in ("A scheduler", "A pipeline", "A denoiser that is a formula", "A page", "A figure"):
        assert f"- **{place}" in text
    places = {place for place in re.findall(r"[\w./-]+\.(?:py|pyi|ipynb|toml|txt)(?:::\w+)?", text) if "/" in place}
    assert len(places) > 5
    for place in places:
        path, _, test = place.partition("::")
        found = [folder / path for folder in (ROOT, ROOT / "reschrom") if (folder / path).is_file()]
        assert found, place
        assert not test or f"def {test}" in found[0].read_text()


def test_contributing_gives_the_pins_as_they_are():
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| pin | why")[1].split("\n\n")[0]
    named = re.findall(r"([\w-]+) (\d[\w.]*)(?=,| \|)", "\n".join(re.findall(r"^\| ([^|]+ \|)", table, re.MULTILINE)))
    assert len(named) >= 12
    versions = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins())}
    assert {canonicalize_name(name): version for name, version in named}.items() <= versions.items()


@pytest.mark.lasting
def test_the_hooks_before_a_commit_run_tools_that_are_pinned():
    """Each is run once, with no file or with one that it has nothing against."""
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = {hook["id"]: shlex.split(hook["entry"]) for hook in local["hooks"]}
    assert set(entries) == {"ruff-check", "ruff-format", "mypy", "lint-imports"}
    for name, (python, *arguments) in entries.items():
        assert python == ".venv/bin/python"
        done = subprocess.run([sys.executable, *arguments, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert "Usage" in done.stdout or "usage" in done.stdout
        (tool,) = {"ruff", "mypy", "importlinter"} & set(re.findall(r"\w+", " ".join(arguments)))
        (distribution,) = importlib.metadata.packages_distributions()[tool]
        assert canonicalize_name(distribution) in {canonicalize_name(pin.split("==")[0]) for pin in pins()}


def test_the_dev_container_sets_up_as_make_does():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    target = container["postCreateCommand"].removeprefix("make ")
    assert target == ".venv/.ready"
    makefile = (ROOT / "Makefile").read_text()
    assert "READY := $(VENV)/.ready" in makefile
    assert "VENV := .venv" in makefile


@pytest.mark.parametrize("name", ["measurement", "figure", "question"])
def test_an_issue_asks_for_what_an_answer_needs(name):
    template = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= set(template)
    asked = {each["id"] for each in template["body"] if each.get("validations", {}).get("required")}
    wanted = {
        "measurement": {"model", "scheduler", "sizes", "code", "seen", "versions"},
        "figure": {"page", "command", "seen", "machine"},
        "question": {"question"},
    }
    assert asked == wanted[name]


def test_the_wheel_is_built_by_the_tool_that_is_pinned():
    (asked,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert asked in pins()


@pytest.mark.lasting
@pytest.mark.parametrize("name", ["README.md", "book/index.md"])
def test_what_the_front_pages_show_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / name).read_text()
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(code, names)
    assert names["shares"].shape == (7, 3)
    np.testing.assert_allclose(names["shares"].sum(axis=0), 1)
    assert 0 < names["tau"] < 500
    commands = re.findall(r"^(?:\.venv/bin/)?reschrom (.*)$", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert main(shlex.split(command)) == 0
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures == {"chromatogram.png"} | ({"ship.png", "sunflower.html"} if name == "README.md" else set())


@pytest.mark.lasting
def test_every_papermill_command_names_a_record_and_its_parameters():
    commands = [
        (path.name, command)
        for path in tracked("README.md", "book/*.md", "notebooks/*.md")
        for command in re.findall(r"papermill (notebooks/[^`\n]*)", path.read_text())
    ]
    assert len(commands) > 20
    for page, command in commands:
        record, _, *options = shlex.split(command)
        known = declared_parameters(read_source((ROOT / record).with_suffix(".md")))
        while options:
            if options[0] == "-y":
                named, options = set(yaml.safe_load(options[1])), options[2:]
            else:
                assert options[0] == "-p", f"{page}: {command}"
                named, options = {options[1]}, options[3:]
            assert named <= set(known), f"{page}: {command}"


def test_what_ships_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        Recipe.load("data/pocket-if-64.yaml").steps == read_json("data/reference/pocket-if-64.json")["recipe"]["steps"]
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pocket-if-64.yaml").write_text("contents: [a mug]\nsteps: 3\n")
    assert Recipe.load("data/pocket-if-64.yaml").steps == 3
