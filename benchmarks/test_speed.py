"""How fast the package is beside the obvious other ways: `pytest benchmarks`. Nothing here is a test of time."""

import subprocess
import sys

import numpy as np
import pytest
import pywt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from reschrom import Chromatogram, Schedule, bands, matched_time
from reschrom.denoisers.windows import _LEAST, _ROUNDS, _drawn, _Mixture
from reschrom.images import photographs

SCHEDULE, LEVELS = Schedule.cosine(), 10
EDGES = np.linspace(0, 1, 1001)
IMAGES = np.random.default_rng(0).standard_normal((64, 3, 64, 64)).astype(np.float32)


def predicted() -> np.ndarray:
    return Chromatogram.predicted(SCHEDULE, 2**LEVELS, edges=EDGES).shares


def by_differences() -> np.ndarray:
    """Eq. (18) as it is printed: alpha at every adjusted time, and its differences."""
    signal = np.stack([SCHEDULE.alpha(matched_time(SCHEDULE, EDGES, m)) for m in range(LEVELS + 1)])
    gained = -np.diff(signal)
    return gained / gained.sum(axis=0)


def numpy_bands() -> list[np.ndarray]:
    return bands(IMAGES)


def torch_bands() -> list[torch.Tensor]:
    return bands(torch.asarray(IMAGES))


def pooled_bands() -> list[torch.Tensor]:
    """The same by torch's own average pooling and nearest-neighbour interpolation."""
    fine, pyramid = torch.asarray(IMAGES), []
    while fine.shape[-1] > 1:
        coarse = torch.nn.functional.avg_pool2d(fine, 2)
        pyramid.append(fine - torch.nn.functional.interpolate(coarse, scale_factor=2, mode="nearest"))
        fine = coarse
    return [*pyramid, fine]


def haar_bands() -> list[np.ndarray]:
    """The same by PyWavelets: one step of the Haar transform, and the inverse of its details alone."""
    fine, pyramid = IMAGES, []
    while fine.shape[-1] > 1:
        average, details = pywt.dwt2(fine, "haar")
        pyramid.append(pywt.idwt2((None, details), "haar"))
        fine = average / 2
    return [*pyramid, fine]


def windows_of_photographs() -> np.ndarray:
    generator = np.random.default_rng(0)
    return _drawn(photographs.photos("photographs", 500, 32, generator=generator), 40_000, generator, whole=False)


def our_mixture(vectors: np.ndarray) -> np.ndarray:
    return _Mixture.fit(vectors, 100, np.random.default_rng(0)).means


def their_mixture(vectors: np.ndarray) -> np.ndarray:
    seed = int(np.random.default_rng(0).integers(2**31))
    mixture = GaussianMixture(100, reg_covar=_LEAST, max_iter=_ROUNDS, random_state=seed)
    return mixture.fit(vectors.astype(np.float32)).means_


def started(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True)


@pytest.mark.benchmark(group="chromatogram, 1,000 steps x 10 levels")
@pytest.mark.parametrize(
    ("way", "run"), [("reschrom", predicted), ("Eq. (18) by differences", by_differences)], ids=["ours", "differences"]
)
def test_chromatogram(benchmark, way, run):
    benchmark.extra_info["way"] = way
    np.testing.assert_allclose(benchmark(run), predicted(), rtol=0, atol=1e-6)


@pytest.mark.benchmark(group="bands of 64 x 3 x 64 x 64 images")
@pytest.mark.parametrize(
    ("way", "run"),
    [
        ("reschrom, NumPy", numpy_bands),
        ("reschrom, torch", torch_bands),
        ("torch avg_pool2d and interpolate", pooled_bands),
        ("PyWavelets Haar", haar_bands),
    ],
    ids=["numpy", "torch", "pooling", "pywavelets"],
)
def test_bands(benchmark, way, run):
    benchmark.extra_info["way"] = way
    torch.set_num_threads(1)
    for band, expected in zip(benchmark(run), numpy_bands(), strict=True):
        np.testing.assert_allclose(np.asarray(band), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
@pytest.mark.benchmark(group="mixture of 100 Gaussians, 40,000 windows of RGB photographs")
@pytest.mark.parametrize(
    ("way", "run"), [("reschrom", our_mixture), ("scikit-learn", their_mixture)], ids=["ours", "sklearn"]
)
def test_mixture(benchmark, way, run):
    benchmark.extra_info["way"] = way
    vectors = windows_of_photographs()
    found = benchmark.pedantic(run, args=(vectors,), rounds=2)
    np.testing.assert_allclose(found, our_mixture(vectors), rtol=0, atol=1e-3)


@pytest.mark.benchmark(group="start of Python and one import")
@pytest.mark.parametrize(
    ("way", "statement"),
    [
        ("import reschrom", "import reschrom"),
        ("no import", "pass"),
        ("from reschrom import chromatography", "from reschrom import chromatography"),
        ("import numpy", "import numpy"),
        ("import torch", "import torch"),
    ],
    ids=["reschrom", "nothing", "theory", "numpy", "torch"],
)
def test_import(benchmark, way, statement):
    benchmark.extra_info["way"] = way
    benchmark.pedantic(started, args=(statement,), rounds=5, warmup_rounds=1)
    assert benchmark.stats.stats.rounds == 5
