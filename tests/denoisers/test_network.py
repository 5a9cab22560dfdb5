"""Networks of one's own: exact posteriors in the convention of every kind of network, and what is refused at the door.

A wrapped posterior is written here by its definition, as a user would write a network, and must measure like itself.
"""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import diffusers
import numpy as np
import pytest
import tiny
import torch

from reschrom import (
    Denoiser,
    FiniteDataset,
    GaussianField,
    GaussianMixture,
    Schedule,
    band_losses,
    coarse_correction,
    ddim,
    designed_timesteps,
    guidance_from_sampling,
    load_pipeline,
    network_denoiser,
    photos,
    predicted_noise,
    rates_from_losses,
    rates_from_sampling,
)
from reschrom.pipelines.latents import encoded

FREE = (-math.inf, math.inf)
COSINE, FLOW, EDM = Schedule.cosine(), Schedule.flow_matching(), Schedule.edm()
DDPM = Schedule.from_diffusers(diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
UNIT = np.linspace(0, 1, 17)
SIGMAS = np.concatenate([[0.0], np.geomspace(0.01, 80, 16)])


class Convention(NamedTuple):
    """How a kind of network is shown images, told times, and answers; `network` makes one of an exact estimate."""

    prediction: str
    schedule: Schedule
    edges: np.ndarray
    network: Callable[[Callable], Callable]


def of_state(schedule: Schedule, prediction: Callable) -> Callable:
    """Make a network that is shown x_t of Eq. (1) and told the time of the schedule."""

    def network(denoise: Callable) -> Callable:
        def fn(x: np.ndarray, t: np.ndarray) -> np.ndarray:
            assert t.shape == (len(x),)
            alpha = float(schedule.alpha(t[0]))
            return prediction(x, denoise(x, alpha), math.sqrt(alpha), math.sqrt(1 - alpha))

        return fn

    return network


def epsilon(x_t: np.ndarray, x_0: np.ndarray, signal: float, noise: float) -> np.ndarray:
    return (x_t - signal * x_0) / noise


def velocity(x_t: np.ndarray, x_0: np.ndarray, signal: float, noise: float) -> np.ndarray:
    return signal * epsilon(x_t, x_0, signal, noise) - noise * x_0


def on_the_straight_path(prediction: Callable) -> Callable:
    """Make a network that is shown (1 - t) x_0 + t noise and told t."""

    def network(denoise: Callable) -> Callable:
        def fn(x: np.ndarray, t: np.ndarray) -> np.ndarray:
            t, length = t[0], np.hypot(1 - t[0], t[0])
            return prediction(x, denoise(x / length, ((1 - t) / length) ** 2), t)

        return fn

    return network


def edm(denoise: Callable) -> Callable:
    def network(x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        power = 1 + sigma[0] ** 2
        return denoise(x / math.sqrt(power), 1 / power)

    return network


CONVENTIONS = {
    "epsilon": Convention("epsilon", COSINE, np.append(UNIT[:-1], 0.999), of_state(COSINE, epsilon)),
    "epsilon at whole timesteps": Convention("epsilon", DDPM, np.linspace(-1, 999, 17), of_state(DDPM, epsilon)),
    "v": Convention("v", COSINE, UNIT, of_state(COSINE, velocity)),
    "x0": Convention("x0", COSINE, UNIT, of_state(COSINE, lambda x_t, x_0, *_: x_0)),
    "flow": Convention("flow", FLOW, UNIT, on_the_straight_path(lambda x, x_0, t: (x - x_0) / t)),
    "x0 of a flow": Convention("x0", FLOW, UNIT, on_the_straight_path(lambda x, x_0, t: x_0)),
    "edm": Convention("x0", EDM, SIGMAS, edm),
}


class Weighted(NamedTuple):
    """An exact posterior that is weighted by precision as a network is, so that all else must be equal."""

    denoise: Callable
    prediction: Denoiser

    def __call__(self, x_t: np.ndarray, alpha: float) -> np.ndarray:
        return self.denoise(x_t, alpha)

    def precision(self, alphas: np.ndarray) -> np.ndarray:
        return self.prediction.precision(alphas)


def field(size: int = 16, channels: int = 1) -> GaussianField:
    levels = int(math.log2(size))
    return GaussianField(0.01 * 4.0 ** np.arange(levels + 1), mean=0.3 * np.ones((channels, size, size)))


def dataset(size: int = 16) -> FiniteDataset:
    return FiniteDataset(np.random.default_rng(5).uniform(0, 1, (6, 1, size, size)))


def mixture(size: int = 16) -> GaussianMixture:
    levels = int(math.log2(size))
    means = np.random.default_rng(6).standard_normal((3, 1, size, size))
    return GaussianMixture([GaussianField(0.1 * 3.0 ** np.arange(levels + 1), mean) for mean in means])


def wrapped(convention: Convention, denoise: Callable, **settings: Any) -> Denoiser:
    fn, value_range = convention.network(denoise), settings.pop("value_range", FREE)
    return Denoiser(fn, convention.prediction, convention.schedule, value_range=value_range, **settings)


POSTERIORS = {
    "field": field(),
    "set": dataset(),
    "mixture": mixture(),
    "field of 32 pixels": field(32, 3),
    "set of 28 pixels": dataset(28),
}
SLOW = [pytest.mark.slow]


@pytest.mark.lasting
@pytest.mark.parametrize(
    "posterior",
    [pytest.param(each, id=name, marks=SLOW * ("32" in name)) for name, each in POSTERIORS.items()],
)
@pytest.mark.parametrize("kind", CONVENTIONS)
def test_a_posterior_in_any_convention_measures_like_itself(kind, posterior):
    convention, rng = CONVENTIONS[kind], np.random.default_rng(0)
    schedule, edges = convention.schedule, convention.edges
    denoise = wrapped(convention, posterior.denoise)
    exact = Weighted(posterior.denoise, denoise)
    images = posterior.sample(6, rng)
    start = rng.standard_normal(images.shape)
    losses, known = (
        band_losses(each, images, schedule, edges, np.random.default_rng(1)) for each in (denoise, exact.denoise)
    )
    np.testing.assert_allclose(losses.mean, known.mean, rtol=1e-5, atol=1e-9 * known.mean.max())
    for measured, same in (
        [rates_from_losses(each, images, schedule, edges, np.random.default_rng(1), "") for each in (denoise, exact)],
        [rates_from_sampling(each, start, schedule, edges, 1, "") for each in (denoise, exact)],
    ):
        np.testing.assert_allclose(measured.centroids(), same.centroids(), rtol=1e-6)
        for own, its in ((measured.rates, same.rates), (measured.replicates, same.replicates)):
            gained, known = own * np.diff(edges), its * np.diff(edges)
            np.testing.assert_allclose(gained, known, rtol=0, atol=1e-7 * known.sum(axis=(-2, -1)).max())


def test_in_pure_noise_an_exact_noise_prediction_still_gives_the_mean():
    posterior, x_t = field(), np.random.default_rng(0).standard_normal((2, 1, 16, 16))
    denoise = wrapped(CONVENTIONS["epsilon"], posterior.denoise)
    np.testing.assert_allclose(denoise(x_t, 0.0), posterior.denoise(x_t, 0.0), rtol=0, atol=1e-5)
    assert 0 < denoise.precision(np.array([0.0]))[0] < 1e-20


@pytest.mark.lasting
@pytest.mark.parametrize("kind", CONVENTIONS)
def test_what_weights_change_lies_within_the_intervals_of_the_posterior_itself(kind):
    convention, posterior, rng = CONVENTIONS[kind], field(), np.random.default_rng(0)
    schedule, edges = convention.schedule, convention.edges
    images, denoise = posterior.sample(100, rng), wrapped(convention, posterior.denoise)
    own, bare = (
        rates_from_losses(each, images, schedule, edges, np.random.default_rng(1), "")
        for each in (denoise, posterior.denoise)
    )
    lower, upper = bare.centroid_interval(0.95)
    assert np.all((lower <= own.centroids()) & (own.centroids() <= upper))


@pytest.mark.parametrize("kind", CONVENTIONS)
def test_a_torch_network_in_single_precision_and_one_of_28_pixels_are_the_posterior(kind):
    convention, posterior = CONVENTIONS[kind], dataset(28)
    network, rng = convention.network(posterior.denoise), np.random.default_rng(0)

    class Module(torch.nn.Module):
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, dtype=dtype))

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            assert x.dtype == self.weight.dtype
            assert not torch.is_grad_enabled()
            said = network(x.double().numpy(), t.double().numpy())
            return self.weight * torch.tensor(said, dtype=x.dtype)

    def closure(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return Module(torch.float32)(x.to(torch.float32), t)

    x_t, settings = rng.standard_normal((3, 1, 28, 28)), {"value_range": (0, 1), "channels": 1, "batch": 2}
    for fn, tolerance in ((Module(torch.float64), 1e-6), (Module(torch.float32), 1e-4), (closure, 1e-4)):
        denoise = Denoiser(fn, convention.prediction, convention.schedule, **settings)
        for alpha in (0.02, 0.5, 0.9):
            estimate = denoise(x_t, alpha)
            assert estimate.dtype == np.float64
            np.testing.assert_allclose(estimate, posterior.denoise(x_t, alpha), rtol=0, atol=tolerance)


def test_paths_are_those_of_the_clocks():
    rng = np.random.default_rng(0)
    x_0, noise = rng.standard_normal((2, 2, 1, 4, 4))
    for schedule, time in ((COSINE, 0.4), (FLOW, 0.4), (Schedule.flow_matching(3.0), 0.4), (EDM, 2.0)):
        alpha = float(schedule.alpha(time))
        ratio = math.sqrt(1 / alpha - 1)  # sigma of x_0 + sigma noise
        straight = ratio / (1 + ratio)
        meant = {
            "preserving": math.sqrt(alpha) * x_0 + math.sqrt(1 - alpha) * noise,
            "straight": (1 - straight) * x_0 + straight * noise,
            "exploding": x_0 + ratio * noise,
        }[schedule.path]
        seen = []
        Denoiser(lambda x, t, seen=seen: seen.append((x, t)) or x, "x0", schedule)(
            math.sqrt(alpha) * x_0 + math.sqrt(1 - alpha) * noise, alpha
        )
        shown, told = seen[-1]
        np.testing.assert_allclose(shown, meant, rtol=0, atol=1e-12)
        np.testing.assert_allclose(told, [time, time], rtol=1e-9)
    timed = Schedule.from_diffusers(diffusers.FlowMatchEulerDiscreteScheduler())
    assert (timed.path, EDM.path, FLOW.path, DDPM.path) == ("straight", "exploding", "straight", "preserving")


def test_labels_are_a_condition_of_all_images_or_of_each():
    fields = mixture().fields
    labels = np.array([2, 0, 1, 1, 0])

    def network(x: np.ndarray, t: np.ndarray, label: np.ndarray) -> np.ndarray:
        assert x.shape[0] == t.shape[0] == label.shape[0]
        x_t, alpha = x / np.hypot(1 - t[0], t[0]), float(FLOW.alpha(t[0]))
        x_0 = [fields[own].denoise(x_t[[i]], alpha)[0] for i, own in enumerate(label)]
        return (x - np.stack(x_0)) / t[0]

    x_t = np.random.default_rng(0).standard_normal((5, 1, 16, 16))
    each = Denoiser(network, "flow", FLOW, condition=labels, batch=2)(x_t, 0.3)
    for label in range(3):
        one = Denoiser(network, "flow", FLOW, condition=label)(x_t, 0.3)
        np.testing.assert_allclose(one, fields[label].denoise(x_t, 0.3), rtol=0, atol=1e-12)
        np.testing.assert_allclose(each[labels == label], one[labels == label], rtol=0, atol=1e-12)
    two = Denoiser(network, "flow", FLOW, condition=labels[:2])(x_t[:2], 0.3)
    np.testing.assert_allclose(two, each[:2], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="one for each image of a batch is needed; got 5 for 3 images"):
        Denoiser(network, "flow", FLOW, condition=labels)(x_t[:3], 0.3)


def test_conditions_reach_a_torch_network_as_its_own_tensors():
    seen = []

    def forward(x: torch.Tensor, t: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        seen.append(told)
        return x.sin() + told.reshape(-1, 1, 1, 1)

    class Network(torch.nn.Linear):
        def forward(self, x: torch.Tensor, t: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
            return forward(x, t, told)

    x_t = np.ones((2, 1, 4, 4))
    for condition, dtype in (([1, 2], torch.int64), (np.ones((2, 3))[:, 0], torch.float64), (torch.ones(1), None)):
        network = Network(1, 1, dtype=torch.float64)
        Denoiser(network, "x0", COSINE, condition=condition)(x_t, 0.5)
        assert seen[-1].dtype == (dtype or torch.float64)
        assert seen[-1].shape == (2,)


def test_a_torch_network_is_given_tensors_of_its_weights_whatever_it_calls_its_inner_precision():
    class Network(torch.nn.Linear):  # as those of guided-diffusion and latent-diffusion: a dtype, and no device
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.float32
            return x.to(self.dtype).sin().to(x.dtype)

    x_t = np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    for dtype, precision in ((torch.float32, 1e-6), (torch.float16, 1e-3)):
        network = Network(1, 1)
        network.dtype = dtype
        network.device = "cuda"  # a word, which some keep for themselves
        np.testing.assert_allclose(Denoiser(network, "x0", COSINE)(x_t, 0.5), np.sin(x_t), rtol=0, atol=precision)


def test_whole_numbers_among_the_weights_do_not_round_the_images():
    class Quantized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.packed = torch.nn.Parameter(torch.ones(2, dtype=torch.uint8), requires_grad=False)
            self.scale = torch.nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x.sin()

    x_t = np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    np.testing.assert_allclose(Denoiser(Quantized(), "x0", COSINE)(x_t, 0.5), np.sin(x_t), rtol=0, atol=1e-6)


def test_what_an_output_of_diffusers_holds_is_understood():
    x_t = np.random.default_rng(0).standard_normal((3, 3, 8, 8))
    unet = tiny.unconditional_unet().eval()
    outputs = [
        unet,
        lambda x, t: unet(x, t),
        lambda x, t: unet(x, t).sample,
        lambda x, t: unet(x, t, return_dict=False),
        lambda x, t: torch.cat([unet(x, t).sample, 9 + 0 * x], dim=1),  # a learned variance
        lambda x, t: unet(torch.tensor(x).float(), torch.tensor(t)).sample.numpy(force=True),
    ]
    first, *others = (Denoiser(fn, "v", DDPM)(x_t, 0.5) for fn in outputs)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-5)


def test_the_names_of_diffusers_mean_the_same():
    x_t = np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    for short, long in (("x0", "sample"), ("v", "v_prediction"), ("flow", "flow_prediction")):
        one, other = (Denoiser(lambda x, t: np.sin(x), name, COSINE) for name in (short, long))
        np.testing.assert_array_equal(one(x_t, 0.3), other(x_t, 0.3))
        np.testing.assert_array_equal(one.precision(UNIT), other.precision(UNIT))


@pytest.mark.lasting
def test_a_network_whose_noise_is_slightly_off_is_measured_right_or_refused():
    # Images in [0, 1], whose mean is far from 0, and a small error as every network makes it.
    posterior, rng = dataset(), np.random.default_rng(0)
    images = posterior.images[rng.integers(6, size=60)]
    exact = of_state(COSINE, epsilon)(posterior.denoise)
    schedule, edges = COSINE, np.linspace(0.001, 0.9999, 41)

    def network(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return exact(x, t) + 0.02 * np.cos(50 * x)

    def bare(x_t: np.ndarray, alpha: float) -> np.ndarray:
        return x_t / math.sqrt(alpha) - _noise(network, x_t, alpha)

    def centroids(model: Callable) -> np.ndarray:
        return rates_from_losses(model, images, schedule, edges, np.random.default_rng(1), "").centroids()

    denoise = Denoiser(network, "epsilon", schedule, value_range=(0, 1))
    assert np.abs(centroids(denoise) - centroids(posterior.denoise)).max() < 0.05
    with pytest.raises(
        ValueError, match=r"alpha = 2\.\de-08 the estimates lose .*no exact denoiser does\. Wrap a network"
    ):
        centroids(bare)
    start = rng.standard_normal(images.shape)
    with pytest.raises(ValueError, match=r"the estimates hold .* times the energy .*no exact denoiser does\. Wrap"):
        rates_from_sampling(bare, start, schedule, edges, 1, "")


def _noise(network: Callable, x_t: np.ndarray, alpha: float) -> np.ndarray:
    return math.sqrt(1 / alpha - 1) * network(x_t, np.full(len(x_t), COSINE.time(alpha)))


@pytest.mark.parametrize("kind", ["edm", "flow", "v", "epsilon"])
def test_a_network_samples_is_corrected_and_chooses_timesteps_as_its_posterior_does(kind):
    convention, rng = CONVENTIONS[kind], np.random.default_rng(0)
    posterior, larger = field(16), np.random.default_rng(1).standard_normal((2, 1, 32, 32))
    denoise, start = wrapped(convention, posterior.denoise), rng.standard_normal((2, 1, 16, 16))
    alphas = np.linspace(0.01, 1, 6)
    for step, same in zip(ddim(denoise, start, alphas), ddim(posterior.denoise, start, alphas), strict=True):
        np.testing.assert_allclose(step.x_t, same.x_t, rtol=0, atol=1e-9)
        np.testing.assert_allclose(step.estimate, same.estimate, rtol=0, atol=1e-9)
    noises = [predicted_noise(each, start, 0.3) for each in (denoise, posterior.denoise)]
    np.testing.assert_allclose(*noises, rtol=0, atol=1e-9)
    corrections = [coarse_correction(each, larger, larger, 0.3) for each in (denoise, posterior.denoise)]
    np.testing.assert_allclose(*corrections, rtol=0, atol=1e-9)
    edges, images = np.linspace(-1, 900, 11), posterior.sample(4, rng)  # EDM's clock ends before pure noise
    measured = [
        rates_from_losses(each, images, DDPM, edges, np.random.default_rng(1), "")
        for each in (denoise, Weighted(posterior.denoise, denoise))
    ]
    own, exact = (designed_timesteps(each, DDPM, 5) for each in measured)
    assert own == exact


def guided_by(kind: str, posterior: GaussianField | GaussianMixture) -> Denoiser:
    return wrapped(CONVENTIONS[kind], posterior.denoise)


@pytest.mark.lasting
@pytest.mark.parametrize("kind", CONVENTIONS)
def test_the_energy_of_guidance_is_that_of_the_two_noise_predictions(kind):
    whole, edges, rng = mixture(), CONVENTIONS[kind].edges, np.random.default_rng(0)
    schedule, start = CONVENTIONS[kind].schedule, rng.standard_normal((3, 1, 16, 16))
    conditional, unconditional = guided_by(kind, whole.fields[0]), guided_by(kind, whole)
    measured = guidance_from_sampling(
        conditional, unconditional, iter([start[:2], start[2:]]), schedule, edges, 2.0, "own"
    )
    x_t, known = start, []
    alphas = schedule.alpha(edges)
    for now, after in zip(alphas[:0:-1], alphas[-2::-1], strict=True):
        ours, all_ours = (each.denoise(x_t, now) for each in (whole.fields[0], whole))
        term = -np.sqrt(now / (1 - now)) * (ours - all_ours)
        known.append(np.square(term).sum() / len(start))
        estimate = all_ours + 2 * (ours - all_ours)
        x_t = np.sqrt(after) * estimate + np.sqrt((1 - after) / (1 - now)) * (x_t - np.sqrt(now) * estimate)
    np.testing.assert_allclose(measured.rates.sum(axis=0), known[::-1], rtol=1e-6, atol=1e-8)
    assert measured.replicates.shape == (200, *measured.rates.shape)


@pytest.mark.lasting
def test_half_the_energy_of_guidance_over_log_snr_is_the_information_of_the_class():
    whole, rng = mixture(), np.random.default_rng(0)
    edges = np.linspace(0.02, 0.9999, 60)
    networks = guided_by("v", whole.fields[0]), guided_by("v", whole)
    start = rng.standard_normal((20, 1, 16, 16))
    measured = guidance_from_sampling(*networks, start, COSINE, edges, 1.0, "class 0")
    nats = (measured.rates.sum(axis=0) * -np.diff(COSINE.log_snr(edges))).sum() / 2
    assert nats == pytest.approx(math.log(3), rel=0.25)


def test_guidance_is_of_one_kind_of_prediction():
    networks = guided_by("v", field()), guided_by("x0", field())
    with pytest.raises(ValueError, match="of one kind; got v_prediction and sample"):
        guidance_from_sampling(*networks, np.zeros((1, 1, 16, 16)), COSINE, UNIT, 1.0, "")


def by_hand(pipeline: Any) -> Denoiser:
    """Write a pipeline's network as a user would who has nothing but the network and its scheduler."""
    unet, told = pipeline.unet, ()
    if hasattr(pipeline, "encode_prompt"):
        told = pipeline.encode_prompt("", num_images_per_prompt=1, do_classifier_free_guidance=False, device="cpu")[:1]

    def fn(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return unet(x, t, *(text.expand(len(x), -1, -1) for text in told)).sample

    return Denoiser(
        fn,
        {"epsilon": "epsilon", "v_prediction": "v"}[pipeline.scheduler.config.prediction_type],
        Schedule.from_diffusers(pipeline.scheduler),
        value_range=FREE if hasattr(pipeline, "vae") else (-1, 1),
    )


SHIPPED = {
    "pocket-lowres-16": 16,
    "pocket-designed-16": 16,
    "pocket-lowres-32": 32,
    "pocket-direct-64": 64,
    "pocket-any-64": 64,
    "pocket-dvdp-64": 64,
    "pocket-if-64": 64,
    "pocket-sd-64": 64,
}


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("name", "size"),
    [pytest.param(name, size, marks=SLOW * (name != "pocket-lowres-16")) for name, size in SHIPPED.items()],
)
def test_a_shipped_network_by_hand_has_the_centroids_of_its_pipeline(name, size):
    pipeline = load_pipeline(f"data/models/{name}")
    schedule, edges = Schedule.from_diffusers(pipeline.scheduler), np.linspace(0, 999, 6)
    images = photos("photographs", 2, size=size, generator=np.random.default_rng(0))
    if hasattr(pipeline, "vae"):
        images = next(encoded(pipeline, [images]))
    start = np.random.default_rng(1).standard_normal(images.shape)
    found = []
    for model in (by_hand(pipeline), pipeline):
        rates = [rates_from_losses(model, images, schedule, edges, np.random.default_rng(2), name)]
        rates += [rates_from_sampling(model, start, schedule, edges, 1, name)]
        found.append([each.centroids() / 999 for each in rates])
    np.testing.assert_allclose(*found, rtol=0, atol=0.01)


@pytest.mark.lasting
def test_a_network_that_predicts_a_part_of_the_noise_is_no_denoiser():
    pipeline = load_pipeline("data/models/pocket-residual-32")
    schedule, edges = Schedule.from_diffusers(pipeline.scheduler), np.linspace(0, 999, 6)
    images = photos("photographs", 2, size=32, generator=np.random.default_rng(0))
    with pytest.raises(ValueError, match="its prediction, sign, clock"):
        rates_from_losses(pipeline, images, schedule, edges, np.random.default_rng(1), "residual")


def test_network_denoiser_is_a_denoiser():
    denoise = network_denoiser(tiny.ddim())
    assert isinstance(denoise, Denoiser)
    assert denoise.value_range == (-1.0, 1.0)


def network(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.tanh(x)


def training(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.dropout(x, 0.5)


def of_its_batch(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=0)


STATE = np.random.default_rng(0).standard_normal((3, 1, 4, 4))


class TimeFirst(torch.nn.Conv2d):
    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + t


class Loss(torch.nn.Linear):
    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x.square().mean()


def asked(fn: Any, prediction: str = "v", schedule: Any = COSINE, alpha: float = 0.5, **settings: Any) -> np.ndarray:
    return Denoiser(fn, prediction, schedule, **settings)(STATE, alpha)


REFUSED: dict[str, tuple[Callable, type, str]] = {
    # when it is made
    "no network": (lambda: asked(3), TypeError, r"a network, fn\(x, t\), is needed; got int"),
    "a pipeline": (lambda: asked(tiny.ddim()), TypeError, r"got DDIMPipeline: network_denoiser\(pipeline\) is that"),
    "a score": (lambda: asked(network, "score"), ValueError, r"predicts epsilon, x0, v, flow, .*; got 'score'"),
    "noise without range": (lambda: asked(network, "epsilon"), TypeError, r"value_range=\(-1, 1\) or \(0, 1\) for pix"),
    "range upside down": (lambda: asked(network, value_range=(1, 0)), ValueError, r"a greatest one; got \(1, 0\)"),
    "no batch": (lambda: asked(network, batch=0), ValueError, r"one or more images; got 0"),
    "no schedule": (lambda: asked(network, schedule="cosine"), TypeError, r"a scheduler is needed .*; got str"),
    # when it is called
    "fails": (
        lambda: asked(lambda x: x),
        TypeError,
        r"one image, called with the shapes \(1, 1, 4, 4\), \(1,\): .*takes",
    ),
    "fails with tensors": (
        lambda: asked(TimeFirst(1, 1, 1)),
        TypeError,
        r"fn failed for one image, called with the shapes \(1, 1, 4, 4\), \(1,\): .*input of size: \[1\]",
    ),
    "fails for several": (
        lambda: asked(lambda x, t: x * float(t)),
        TypeError,
        r"fn failed for 2 images, called with the shapes \(2, 1, 4, 4\), \(2,\): ",
    ),
    "a loss": (lambda: asked(Loss(1, 1)), ValueError, r"of the shape of its images, \(1, 1, 4, 4\); got \(\)"),
    "three channels": (
        lambda: asked(network, channels=3),
        ValueError,
        r"\(N, 3, H, W\) are needed; got \(3, 1, 4, 4\)",
    ),
    "no number": (lambda: asked(network, alpha=2.0), ValueError, r"alpha .* in \[0, 1\]; got"),
    "another shape": (lambda: asked(lambda x, t: x[:, :, 1:]), ValueError, r"\(1, 1, 4, 4\); got \(1, 1, 3, 4\)"),
    "another number": (
        lambda: asked(lambda x, t: STATE),
        ValueError,
        r"\(1, 1, 4, 4\); got \(3, 1, 4, 4\); what differs .* condition",
    ),
    "NaN": (lambda: asked(lambda x, t: x * np.nan), ValueError, r"NaN or infinity at its time 0\.49"),
    "whole numbers": (lambda: asked(lambda x, t: x.astype(int)), TypeError, r"real numbers, .*; got an array of int64"),
    "whole tensors": (lambda: asked(lambda x, t: torch.ones(x.shape).int()), TypeError, r"got an array of int32"),
    "two of them": (lambda: asked(lambda x, t: (x, x)), TypeError, r"its prediction alone; got tuple"),
    "a dictionary": (lambda: asked(lambda x, t: {"x": x}), TypeError, r"its prediction alone; got dict"),
    "nothing": (lambda: asked(lambda x, t: None), TypeError, r"its prediction alone; got NoneType"),
    "in training": (lambda: asked(training), ValueError, r"from call to call.*call its eval\(\)"),
    "of its batch": (lambda: asked(of_its_batch), ValueError, r"images beside it; .*call its eval\(\)"),
    "beyond its clock": (lambda: asked(network, schedule=EDM, alpha=1e-9), ValueError, r"the edm schedule has"),
    # a network in the place of a denoiser
    "a module": (
        lambda: measured(torch.nn.Identity()),
        TypeError,
        r"returns an array.*; got Identity\. Wrap a network",
    ),
    "told t": (
        lambda: measured(network),
        TypeError,
        r"got function, which takes 't'\. Wrap a network of your own: Den",
    ),
    "told timestep": (lambda: measured(lambda x, timestep: x), TypeError, r"which takes 'timestep'\. Wrap a network"),
    "a tensor": (
        lambda: measured(lambda x, a: torch.tensor(x)),
        TypeError,
        r"this one returned Tensor\. Wrap a network",
    ),
    "a list": (lambda: measured(lambda x, a: [x]), TypeError, r"this one returned list\. Wrap a network"),
    "an output": (
        lambda: measured(lambda x, a: diffusers.models.unets.unet_2d.UNet2DOutput(sample=torch.tensor(x))),
        TypeError,
        r"this one returned UNet2DOutput\. Wrap a network",
    ),
    "tensors": (lambda: measured(lambda x, a: x.cuda()), TypeError, r"failed: .* has no attribute 'cuda'\. Wrap a net"),
    "images of another range": (
        lambda: measured(Denoiser(network, "epsilon", COSINE, value_range=(0, 1))),
        ValueError,
        r"the value_range of the network, \(0, 1\); got images with values from -2",
    ),
}


def measured(model: Any) -> Any:
    return band_losses(model, STATE, COSINE, np.array([0.5]), np.random.default_rng(0))


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(name):
    call, kind, line = REFUSED[name]
    with pytest.raises(kind, match=line) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_without_torch_a_network_is_called_with_arrays_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    np.testing.assert_allclose(asked(network, "x0"), np.tanh(STATE))
    with pytest.raises(TypeError, match=r"called with the shapes \(1, 1, 4, 4\), \(1,\): no$"):
        asked(lambda x, t: raised())


def raised() -> None:
    raise RuntimeError("no")


@pytest.mark.parametrize("kind", ["module", "function"])
def test_dropout_is_off_while_a_network_predicts_and_on_afterwards(kind):
    class Dropping(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.frozen = torch.nn.Dropout(0.5), torch.nn.BatchNorm2d(1).eval()

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            assert not self.training
            assert not self.frozen.training
            return self.dropout(x) * t[0]

    dropping = Dropping()
    assert dropping.train().training
    dropping.frozen.eval()
    fn = dropping if kind == "module" else lambda x, t: dropping(torch.as_tensor(x), t)
    denoise = Denoiser(fn, "x0", COSINE)
    x_t = np.ones((2, 1, 4, 4))
    np.testing.assert_allclose(denoise(x_t, 0.5), float(COSINE.time(0.5)) * x_t, rtol=1e-6)
    assert dropping.training
    assert dropping.dropout.training
    assert not dropping.frozen.training


def only_whole(time: float) -> float:
    if not time.is_integer():
        raise IndexError("a table has whole rows")
    return time


@pytest.mark.parametrize("rounded", [round, int, only_whole], ids=["round", "cut off", "only whole"])
def test_a_network_of_whole_timesteps_is_interpolated_between_them(rounded):
    posterior, asked = field(), []

    def by_table(x: np.ndarray, times: np.ndarray) -> np.ndarray:
        asked.append(float(times[0]))
        alpha = float(DDPM.alpha(float(rounded(times[0]))))
        return (x - np.sqrt(alpha) * posterior.denoise(x, alpha)) / np.sqrt(1 - alpha)

    denoise = Denoiser(by_table, "epsilon", DDPM, value_range=FREE)
    x_t = np.random.default_rng(0).standard_normal((2, 1, 16, 16))
    denoise(x_t, 0.5)
    for time in (100.3, 499.5, 800.7):
        alpha = float(DDPM.alpha(time))
        asked.clear()
        np.testing.assert_allclose(denoise(x_t, alpha), posterior.denoise(x_t, alpha), rtol=0, atol=1e-4)
        assert asked == [math.floor(time), math.ceil(time)]
    asked.clear()
    denoise(x_t, float(DDPM.alpha(300.0)))
    assert len(asked) <= 2


def test_arrays_of_other_libraries_are_taken():
    class Foreign:
        """An array as JAX returns it."""

        def __init__(self, values: np.ndarray) -> None:
            self._values, self.dtype = values, values.dtype

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return self._values

    denoise = Denoiser(lambda x, t: Foreign(np.float32(0.5) * x.astype(np.float32)), "x0", COSINE)
    np.testing.assert_array_equal(denoise(np.ones((1, 1, 4, 4)), 0.5), 0.5 * np.ones((1, 1, 4, 4)))


def test_a_mistake_of_a_network_is_told_as_it_is():
    denoise = Denoiser(lambda x, t: x[:, :1], "x0", COSINE)
    with pytest.raises(ValueError, match="a prediction of the shape of its images") as refused:
        predicted_noise(denoise, np.ones((1, 3, 4, 4)), 0.5)
    assert "Wrap a network of your own" not in str(refused.value)
