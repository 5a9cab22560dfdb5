"""What a clone must hold: one set of versions, links that lead somewhere, nothing that ties it to one machine."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reschrom.book.execute import ENVIRONMENT

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


def test_every_version_is_pinned():
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", pin) for pin in pins())
    assert "torch==2.13.0" in pins()
    assert "jupyter-book==1.0.4.post1" in pins()


def test_everything_the_project_asks_for_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    pinned = {canonicalize_name(pin.split("==")[0]) for pin in pins()}
    assert {canonicalize_name(Requirement(line).name) for line in asked} <= pinned


def test_conda_installs_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (by_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert by_pip[:-1] == pins()
    assert by_pip[-1] == "-e .[book,test]"


def test_no_file_names_a_place_on_one_machine():
    elsewhere = re.compile(r"(?<![\w.])/(?:home|root|Users|work)/\S*")
    files = [path for path in tracked() if path.name not in ("test_layout.py", "test_records.py")]  # they look for it
    assert [f"{path.name}: {found}" for path in files for found in elsewhere.findall(path.read_text())] == []


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
