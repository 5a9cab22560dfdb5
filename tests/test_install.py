"""What an installation holds: six packages at the base, the rest in extras, a small wheel, types that reach the user.

The base install is imitated in a process of its own, in which the packages that only extras bring cannot be imported.
"""

import email
import importlib.util
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import reschrom
from reschrom import Chromatogram, Schedule, designed_timesteps, scheduler_for
from reschrom._extras import EXTRAS
from reschrom.cli.schedules import CONSTRUCTORS

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "data" / "models" / "pocket-lowres-16"
BASE = {"array-api-compat", "jaxtyping", "lazy-loader", "matplotlib", "numpy", "scipy"}
# What an extra brings, or what only the book and the tests need. Matplotlib brings Pillow itself.
ABSENT = {*EXTRAS, "beartype", "bs4", "IPython", "jupytext", "nbformat", "ot", "papermill", "snakemake", "sympy"}
BARE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(ABSENT)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
# The modules whose classes are made of those of diffusers.
OF_DIFFUSERS = {"reschrom.dvdp.pipeline", "reschrom.dvdp.scheduler", "reschrom.pipelines.cascade_unet"}


def bare(code, folder, *arguments):
    """Run Python code as on a base install, in a folder."""
    command = [sys.executable, "-c", BARE + code, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def commanded(folder, *commands):
    """Run command lines as on a base install, in a folder, until one fails."""
    return bare(f"from reschrom.cli.commands import main\nsys.exit(any(map(main, {commands})) * 2)", folder)


def modules():
    """Return every module that the wheel holds, by its name."""
    package = ROOT / "reschrom"
    files = [path for path in package.rglob("*.py") if "companion" not in path.relative_to(package).parts]
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in files]
    names = [".".join(each[:-1] if each[-1] == "__init__" else each) for each in parts]
    return [name for name in names if not name.endswith("__main__")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout as `pip install .` builds it."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


@pytest.mark.lasting
def test_the_base_install_is_six_packages(metadata):
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    assert {canonicalize_name(each.name) for each in asked if each.marker is None} == BASE
    assert set(metadata.get_all("Provides-Extra")) == {"diffusers", "data", "train", "book", "test"}


def test_the_line_names_an_extra_that_brings_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = {"skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    for package, extra in EXTRAS.items():
        brought = {canonicalize_name(Requirement(line).name) for line in extras[extra]}
        assert canonicalize_name(distributions.get(package, package)) in brought
    for extra in ("diffusers", "data"):
        others = {"pillow"}  # matplotlib brings it, but pictures are not read by chance
        assert len(extras[extra]) >= 5
        unnamed = {canonicalize_name(Requirement(line).name) for line in extras[extra]} - others
        assert unnamed <= {canonicalize_name(distributions.get(package, package)) for package in EXTRAS}


@pytest.mark.lasting
def test_every_module_is_imported_on_the_base_alone(tmp_path):
    names = modules()
    assert len(names) > 40
    code = """
import importlib
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(name, error.name)
"""
    done = bare(code, tmp_path, *names)
    assert done.stderr == ""
    missing = dict(line.split() for line in done.stdout.splitlines())
    of_recipes = {name for name, package in missing.items() if package == "pydantic"}
    assert set(missing) - of_recipes == OF_DIFFUSERS
    assert all(name.startswith("reschrom.train.") for name in of_recipes)


@pytest.mark.lasting
def test_every_public_name_loads_or_names_its_extra_in_one_line(tmp_path):
    code = """
import reschrom
for name in reschrom.__all__:
    try:
        getattr(reschrom, name)
    except ModuleNotFoundError as error:
        print(error)
"""
    done = bare(code, tmp_path)
    assert done.stderr == ""
    told = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(told) == {"CascadedUNet", "DVDPPipeline", "DVDPScheduler"}
    assert all(line.endswith(' is not installed: pip install "reschrom[diffusers]"') for line in told.values())


SETTING = """
import numpy as np
import reschrom
from pathlib import Path
from reschrom import Chromatogram, Schedule
from reschrom.images.pictures import photographs, stream
noise = np.random.default_rng(0)
images = noise.normal(size=(8, 3, 4, 4))
cosine = Schedule.cosine()
Path("pictures").mkdir()
Path("pictures/a.parquet").touch()
"""
NEEDING = [
    ('reschrom.photos("photographs", 1, 8, generator=noise)', "photos needs skimage", "data"),
    ('next(stream("photos", 8))', "reading pictures needs tqdm", "data"),
    ('photographs("pictures", "a picture", "test", 8)', "a parquet file needs pyarrow", "data"),
    ('photographs("owner/pictures", "a picture", "test", 8)', "a data set on the hub needs huggingface_hub", "data"),
    ("reschrom.WindowMixture(images, noise)", "WindowMixture needs sklearn", "data"),
    ("reschrom.GaussianMixture.fit(images, 2, noise)", "GaussianMixture.fit needs sklearn", "data"),
    ("Chromatogram.predicted(cosine, 8).to_dataframe()", "Chromatogram.to_dataframe needs pandas", "data"),
    ('reschrom.load_pipeline("data/models/pocket-lowres-16")', "load_pipeline needs torch", "diffusers"),
    ("reschrom.scheduler_for(cosine)", "scheduler_for needs diffusers", "diffusers"),
    ("reschrom.usual_timesteps(None, 5)", "usual_timesteps needs diffusers", "diffusers"),
    ("from reschrom.train import Recipe", "Recipe needs pydantic", "train"),
    ("from reschrom.train import train", "train needs pydantic", "train"),
]


@pytest.mark.lasting
@pytest.mark.parametrize(("call", "needs", "extra"), NEEDING, ids=[needs.split(" needs")[0] for _, needs, _ in NEEDING])
def test_a_call_that_needs_an_extra_says_which(tmp_path, call, needs, extra):
    done = bare(f"{SETTING}try:\n    {call}\nexcept ModuleNotFoundError as error:\n    print(error)", tmp_path)
    assert done.stderr == ""
    assert done.stdout == f'{needs}, which is not installed: pip install "reschrom[{extra}]"\n'


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("argv", "needs", "extra"),
    [
        (["measure", "--model", str(MODEL), "--out", "r.png"], "torch", "diffusers"),
        (["switch", "m", "[a:b:2]"], "torch", "diffusers"),
        (["timesteps", "--model", "m", "--steps", "5"], "torch", "diffusers"),
        (["time", "--schedule", str(MODEL), "--level", "1", "--t", "5"], "diffusers", "diffusers"),
        (["spectrum", "photos", "--size", "8"], "tqdm", "data"),
        (["train", "t2i", "--config", "r.yaml", "--data", "photos", "--out", "o"], "transformers", "train"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_that_needs_an_extra_says_which(tmp_path, argv, needs, extra):
    done = commanded(tmp_path, argv)
    line = f'reschrom: reschrom {argv[0]} needs {needs}, which is not installed: pip install "reschrom[{extra}]"\n'
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    assert list(tmp_path.iterdir()) == []


def test_what_an_installed_package_lacks_is_not_blamed_on_an_extra(tmp_path):
    code = """
from reschrom._extras import naming_extra
with naming_extra("this"):
    raise ModuleNotFoundError("No module named 'torchsde'", name="torchsde")
"""
    done = bare(code, tmp_path)
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'torchsde'\n")


@pytest.mark.lasting
def test_chromatograms_are_drawn_kept_and_tabulated_on_the_base_alone(tmp_path):
    command = ["chromatogram", "--schedule", "cosine", "--size", "64", "--out"]
    done = commanded(tmp_path, *([*command, name] for name in ("r.png", "r.svg", "r.csv", "r.json", "r.npz")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "r.svg").read_text()
    kept = [Chromatogram.load(tmp_path / name) for name in ("r.json", "r.npz")]
    expected = Chromatogram.predicted(Schedule.cosine(), 64)
    assert all((each.rates == expected.rates).all() for each in kept)
    pandas.testing.assert_frame_equal(pandas.read_csv(tmp_path / "r.csv"), expected.to_dataframe(), rtol=1e-14)
    assert (tmp_path / "r.csv").read_text() == expected.to_dataframe().to_csv(index=False)


@pytest.mark.lasting
def test_times_and_timesteps_are_told_on_the_base_alone(tmp_path):
    names = sorted(set(CONSTRUCTORS) - {"natural"})
    timesteps = [["timesteps", "--schedule", name, "--size", "64", "--steps", "10"] for name in names]
    done = commanded(tmp_path, ["time", "--schedule", "cosine", "--level", "1", "--t", "0.5"], *timesteps)
    assert (done.returncode, done.stderr) == (0, "")
    *told, cosine, flow, linear, scaled, sigmoid = done.stdout.splitlines()
    assert told[1].startswith("tau          = 0.292799 ")
    for name, line in zip(names, (cosine, flow, linear, scaled, sigmoid), strict=True):
        # The scheduler of diffusers is what the timesteps are for.
        schedule = Schedule.from_diffusers(scheduler_for(CONSTRUCTORS[name]()))
        whole = Chromatogram.predicted(schedule, 64, edges=np.arange(schedule.start, schedule.end + 1))
        assert line == f"timesteps={designed_timesteps(whole, schedule, 10)}"


def test_the_wheel_is_small_and_holds_the_package_alone(wheel):
    assert wheel.stat().st_size <= 2**20
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = f"reschrom-{reschrom.__version__}.dist-info/"
    assert {name for name in names if not name.startswith("reschrom/")} == {
        about + name for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert not [name for name in names if name.startswith("reschrom/companion")]
    assert {"reschrom/py.typed", "reschrom/__init__.pyi", "reschrom/plots/reschrom.mplstyle"} <= names
    sources = {name.replace(".", "/") for name in modules()}
    assert sources <= {name.removesuffix("/__init__.py").removesuffix(".py") for name in names}


def test_the_version_is_said_in_one_place(metadata):
    assert metadata["Version"] == reschrom.__version__
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == reschrom.__version__
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## [{cited['version']}] - {cited['date-released']}\n" in changes


SNIPPET = """\
from reschrom import Chromatogram, Schedule, matched_time

right = Schedule.cosine()
wrong = Schedule.cosinee()
predicted = Chromatogram.predicted(right, 64)
bad = Chromatogram.predicted(right, "64")
tau = matched_time(right, 0.5, level=1)
figure = predicted.plot()
figure.savefig("chromatogram.png")
names: list[str] = predicted.band_names
"""


@pytest.mark.slow
def test_mypy_refuses_the_two_mistakes_of_a_user(wheel, tmp_path):
    """The wheel is unpacked into an environment of its own, with what a base install brings."""
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in BASE:
        package = importlib.util.find_spec(name.replace("-", "_"))
        (site / package.name).symlink_to(Path(package.origin).parent)
    (tmp_path / "user.py").write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(tmp_path / "env/bin/python")]
    done = subprocess.run([*command, "user.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    first, second, last = done.stdout.splitlines()
    assert first.startswith('user.py:4: error: "type[Schedule]" has no attribute "cosinee"')
    assert second.startswith(
        'user.py:6: error: Argument 2 to "predicted" of "Chromatogram" has incompatible type "str"'
    )
    assert last.startswith("Found 2 errors in 1 file")
