"""The page of examples for a network of one's own: each block runs, with an exact posterior in the network's place."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from reschrom import Chromatogram, FiniteDataset, GaussianField, GaussianMixture, Schedule, ddim, network_denoiser

PAGE = Path(__file__).parents[2] / "book" / "own-network.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def pictures(size: int) -> FiniteDataset:
    """Six grey pictures in [0, 1] that differ at every resolution."""
    field = GaussianField(0.006 * 4.0 ** np.arange(np.log2(size) + 1), channels=1)
    return FiniteDataset(np.clip(0.4 + field.sample(6, np.random.default_rng(size)), 0, 1))


PICTURES, LARGER = pictures(16), pictures(32)
CLASSES = {
    3: GaussianField([0.1, 0.4, 2.0, 9.0, 30.0], channels=1),
    7: GaussianField([0.4, 0.4, 0.9, 2.0, 90.0], channels=1),
}
CLASSES[10] = GaussianMixture([CLASSES[3], CLASSES[7]])
TABLE = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    assert t.dtype == torch.int64
    alpha, x_t = TABLE[t[0]], x.double().numpy()
    posterior = PICTURES if x.shape[-1] == 16 else LARGER
    return torch.tensor((x_t - np.sqrt(alpha) * posterior.denoise(x_t, alpha)) / np.sqrt(1 - alpha))


def velocity(x: np.ndarray, t: np.ndarray, label: np.ndarray) -> np.ndarray:
    x_t, alpha = x / np.hypot(1 - t[0], t[0]), float(Schedule.flow_matching().alpha(t[0]))
    return (x - CLASSES[label[0]].denoise(x_t, alpha)) / t[0]


def exploding(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact estimate in x_0 + sigma noise."""
    power = 1 + float(sigma.flatten()[0]) ** 2
    return torch.tensor(PICTURES.denoise(x.double().numpy() / np.sqrt(power), 1 / power))


def F(x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
    sigma, data = torch.exp(4 * c_noise.double()).reshape(-1, 1, 1, 1), 0.5
    length = torch.sqrt(sigma**2 + data**2)
    return (exploding(x * length, sigma) - data**2 / length * x) * length / (sigma * data)


def s(t: Any) -> Any:
    return 0.9 * np.exp(-3 * t)


def sigma(t: Any) -> Any:
    return 0.01 + 3 * np.power(t, 1.5)


def score(x: np.ndarray, t: float) -> np.ndarray:
    size = np.hypot(s(t), sigma(t))
    return (s(t) * PICTURES.denoise(x / size, (s(t) / size) ** 2) - x) / sigma(t) ** 2


class Wrapped(torch.nn.Module):
    """What k-diffusion makes of a network that predicts noise: its estimate of x_0 in x_0 + sigma noise."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sigmas", torch.tensor(np.sqrt(1 / TABLE - 1)))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return exploding(x, sigma)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    rng, pipeline = np.random.default_rng(0), tiny.ddim()
    images = PICTURES.sample(24, rng)
    scope: dict[str, Any] = {
        "net": net,
        "velocity": velocity,
        "F": F,
        "s": s,
        "sigma": sigma,
        "score": score,
        "wrapped": Wrapped(),
        "pipeline": pipeline,
        "unet": pipeline.unet,
        "scheduler": pipeline.scheduler,
        "images": images,
        "noise": rng.standard_normal(images.shape),
    }
    for block in BLOCKS:
        exec(block, scope)
    return scope


def test_each_network_of_the_page_takes_five_lines():
    assert len(BLOCKS) == 10
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 5 for block in BLOCKS[1:7])


@pytest.mark.parametrize(
    ("name", "denoise"),
    [
        ("ddpm", PICTURES.denoise),
        ("edm", PICTURES.denoise),
        ("k_diffusion", PICTURES.denoise),
        ("own", PICTURES.denoise),
        ("flow", CLASSES[3].denoise),
        ("unconditional", CLASSES[10].denoise),
    ],
)
@pytest.mark.parametrize("timestep", [100, 500, 900])
def test_each_network_of_the_page_gives_the_exact_estimate(page, name, denoise, timestep):
    x_t, alpha = np.random.default_rng(1).standard_normal((3, 1, 16, 16)), TABLE[timestep]
    np.testing.assert_allclose(page[name](x_t, alpha), denoise(x_t, alpha), rtol=0, atol=2e-4)


def test_the_unet_of_the_page_is_that_of_its_pipeline(page):
    x_t = np.random.default_rng(1).standard_normal((3, 3, 8, 8))
    np.testing.assert_array_equal(page["alone"](x_t, 0.4), network_denoiser(page["pipeline"])(x_t, 0.4))


def test_what_the_page_measures_is_within_the_intervals_of_the_posterior(page):
    exact: dict[str, Any] = {**page, "ddpm": PICTURES.denoise}
    for known, measured in (("on_data", page["on_data"]), ("generated", page["generated"])):
        assert isinstance(measured, Chromatogram)
        exec(BLOCKS[7].partition("\nprint")[0].replace("ddpm.schedule", "schedule"), exact)
        lower, upper = exact[known].centroid_interval(0.95)
        seen = np.isfinite(lower)  # one brightness among 24 images is too little to have an interval when generated
        assert seen[:-1].all()
        assert np.all((lower <= measured.centroids()) & (measured.centroids() <= upper) | ~seen)
    *_, last = ddim(PICTURES.denoise, page["noise"], page["schedule"].alpha(np.array([*page["timesteps"], -1.0])))
    np.testing.assert_allclose(page["last"].x_t, last.x_t, rtol=0, atol=1e-3)


def test_guidance_and_larger_images_of_the_page_are_those_of_the_posterior(page):
    edges, flow = np.linspace(0, 1, 16), Schedule.flow_matching()
    kept = []

    def guided(x_t, alpha):
        own, base = (CLASSES[label].denoise(x_t, alpha) for label in (3, 10))
        kept.append(alpha / (1 - alpha) * np.square(own - base).sum() / len(x_t))
        return base + 3 * (own - base)

    for _ in ddim(guided, page["noise"], flow.alpha(edges[:0:-1])):
        pass
    np.testing.assert_allclose(page["guidance"].rates.sum(axis=0), kept[::-1], rtol=1e-6, atol=1e-9)

    x_t, alpha = np.random.default_rng(1).standard_normal((2, 1, 32, 32)), TABLE[400]
    estimate, power = LARGER.denoise(x_t, alpha), alpha + (1 - alpha) / 4
    pooled, coarse = (each.reshape(2, 1, 16, 2, 16, 2).mean(axis=(3, 5)) for each in (x_t, estimate))
    change = PICTURES.denoise(pooled / np.sqrt(power), alpha / power) - coarse
    expected = estimate + change.repeat(2, axis=-1).repeat(2, axis=-2)
    np.testing.assert_allclose(page["larger"](x_t, alpha), expected, rtol=0, atol=2e-3)
