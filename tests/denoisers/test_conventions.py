"""Networks that are read in another convention than their own: what is refused, and that nothing else is."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reschrom import (
    Denoiser,
    FiniteDataset,
    GaussianField,
    GaussianMixture,
    NearestImage,
    ScaleMixture,
    Schedule,
    WindowMixture,
    band_information,
    band_losses,
    band_spectrum,
    ddim,
    decided_share,
    guidance_from_sampling,
    load_pipeline,
    measure_spectrum,
    network_denoiser,
    photos,
    predicted_times,
    rates_from_losses,
    rates_from_sampling,
    survival,
)
from reschrom.denoisers.conventions import _asked, _ends, _gained

PAGE = Path(__file__).parents[2] / "book" / "own-network.md"
COSINE, LINEAR, FLOW = Schedule.cosine(), Schedule.linear(), Schedule.flow_matching()
SCALED, SHIFTED = Schedule.scaled_linear(), Schedule.flow_matching(3.0)
IMAGES = photos("photographs", 32, size=16, generator=np.random.default_rng(0))
FIELD = GaussianField.fit(IMAGES)
WHITE = np.random.default_rng(5).standard_normal((8, *IMAGES.shape[1:]))
EDGES, LOG_SNR = np.linspace(0, 1, 21), np.linspace(-5, 8, 14)
BLIND = r"err \d+\.\d times as much as the noised images, or images of zeros, do: its prediction, sign, clock"
FOREIGN = r"on samples of its own the denoiser errs \d+\.\d times as much as a Gaussian field of their spectrum does"
NOISE = r"the noise is \d+\.\d\d times what the denoiser predicts of it: its schedule, clock, prediction, sign or range"
TIME = r"told another time than that of the noise, the network errs \d+% less: its schedule or clock is another"
UNIT = "the network hardly hears a time from 0 to 1, and it hears one from 0 to 1000: write"
BLIND, FOREIGN = f"{BLIND}|{NOISE}|{UNIT}|{TIME}", f"{FOREIGN}|{NOISE}|{UNIT}|{TIME}"

Outputs = dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]]
# Of the exact estimate x and noise e where the signal has the power a.
OUTPUTS: Outputs = {
    "epsilon": lambda x, e, a: e,
    "x0": lambda x, e, a: x,
    "v": lambda x, e, a: np.sqrt(a) * e - np.sqrt(1 - a) * x,
    "flow": lambda x, e, a: e - x,
}


def network(
    returns: str,
    schedule: Schedule = COSINE,
    clock: Callable[[float], float] = float,
    sign: int = 1,
    unit: bool = False,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A network that knows the field exactly, in a convention of its own.

    clock: from the time it is told to the time it knows.
    unit: its images have values from 0 to 1, and not from -1 to 1.
    """

    def predict(x: np.ndarray, times: np.ndarray) -> np.ndarray:
        t = clock(float(times[0]))
        a = float(schedule.alpha(t))
        x_t = x * (np.sqrt(a) + np.sqrt(1 - a)) if schedule.path == "straight" else x
        if unit:  # noise of twice the size on images from -1 to 1
            seen, power = 2 * x_t - np.sqrt(a), a + 4 * (1 - a)
            estimate = (FIELD.denoise(seen / np.sqrt(power), a / power) + 1) / 2
        else:
            estimate = FIELD.denoise(x_t, a)
        noise = (x_t - np.sqrt(a) * estimate) / np.sqrt(max(1 - a, 1e-12))
        return sign * OUTPUTS[returns](estimate, noise, a)

    return predict


def told(fn: Any, prediction: str, schedule: Schedule = COSINE) -> Denoiser:
    return Denoiser(fn, prediction, schedule, value_range=(-1, 1) if prediction == "epsilon" else None)


MISTAKES = {
    "the sign of the noise": told(network("epsilon", sign=-1), "epsilon"),
    "the sign of a flow": told(network("flow", FLOW, sign=-1), "flow", FLOW),
    "the noise told as the image": told(network("epsilon"), "x0"),
    "the image told as the noise": told(network("x0"), "epsilon"),
    "the velocity told as the noise": told(network("v"), "epsilon"),
    "the noise told as the velocity": told(network("epsilon"), "v"),
    "a flow from noise to image, as torchcfm has it: clock and sign": told(
        network("flow", FLOW, lambda t: 1 - t, sign=-1), "flow", FLOW
    ),
    "the clock of a flow alone": told(network("flow", FLOW, lambda t: 1 - t), "flow", FLOW),
    "times from 0 to 1 where it knows 0 to 1000": told(network("epsilon", clock=lambda t: t / 1000), "epsilon"),
    "the cosine schedule told as the linear": told(network("epsilon", COSINE), "epsilon", LINEAR),
    "the linear schedule told as the cosine": told(network("epsilon", LINEAR), "epsilon", COSINE),
    "the linear schedule told as the scaled linear": told(network("epsilon", LINEAR), "epsilon", SCALED),
    "the scaled linear schedule told as the linear": told(network("epsilon", SCALED), "epsilon", LINEAR),
    "a flow told with the shift 3, which it has not": told(network("flow", FLOW), "flow", SHIFTED),
    "a flow told without the shift 3 that it has": told(network("flow", SHIFTED), "flow", FLOW),
    "a network of values from 0 to 1, told as -1 to 1": told(network("epsilon", unit=True), "epsilon"),
    "of the image: the cosine schedule told as the linear": told(network("x0"), "x0", LINEAR),
    "of the image: the linear schedule told as the cosine": told(network("x0", LINEAR), "x0"),
    "of the image: the linear schedule told as the scaled linear": told(network("x0", LINEAR), "x0", SCALED),
    "of the image: the scaled linear schedule told as the linear": told(network("x0", SCALED), "x0", LINEAR),
    "of the image: its clock from image to noise, told from noise to image": told(
        network("x0", clock=lambda t: 1 - t), "x0"
    ),
    "of the velocity: the linear schedule told as the cosine": told(network("v", LINEAR), "v"),
} | {
    f"of {name}: times from 0 to 1 where it knows 0 to 1000": told(
        network(returns, schedule, lambda t: t / 1000), returns, schedule
    )
    for name, returns, schedule in (
        ("the image", "x0", COSINE),
        ("the velocity", "v", COSINE),
        ("a flow", "flow", FLOW),
    )
}
OWN = {
    "noise": told(network("epsilon"), "epsilon"),
    "image": told(network("x0"), "x0"),
    "velocity": told(network("v"), "v"),
    "flow": told(network("flow", FLOW), "flow", FLOW),
    "the linear schedule": told(network("epsilon", LINEAR), "epsilon", LINEAR),
    "a shifted flow": told(network("flow", SHIFTED), "flow", SHIFTED),
}


def refused(measure: Callable[..., Any], *given: Any, why: str) -> str:
    """What the page says of a mistake: that it is refused, with this reason, or that it is measured."""
    try:
        measure(*given)
    except ValueError as error:
        return "refused" if re.search(why, str(error)) else str(error)
    return "**measured**"


@pytest.mark.lasting
def test_the_page_says_which_mistakes_are_seen():
    found = {}
    for name, denoise in MISTAKES.items():
        rng, schedule = np.random.default_rng(1), denoise.schedule
        found[name] = [
            refused(rates_from_losses, denoise, IMAGES, schedule, EDGES, rng, "x", why=BLIND),
            refused(rates_from_sampling, denoise, WHITE, schedule, EDGES, 1, "x", why=FOREIGN),
        ]
        own = next(each for each in OWN.values() if each.prediction == denoise.prediction)
        for pair in ((denoise, own), (own, denoise)):  # as either of the two
            guided = refused(guidance_from_sampling, *pair, WHITE, schedule, EDGES, 2.0, "x", why=FOREIGN)
            assert guided == found[name][1]
            if found[name][0] == "refused":
                assert refused(band_information, *pair, IMAGES, LOG_SNR, rng, why=BLIND) == "refused"
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    said = {name: [on_images, on_samples] for name, on_images, on_samples in rows if name in found}
    assert said == found


def test_of_another_schedule_a_network_of_the_image_draws_other_images_and_knows_them():
    """The page says by how much; no look at these samples alone can tell."""
    other, right = (
        rates_from_sampling(told(network("x0", schedule), "x0", LINEAR), WHITE, LINEAR, EDGES, 1, "x").centroids()
        for schedule in (COSINE, LINEAR)
    )
    assert np.isnan(other[-1])
    assert np.nanmax(np.abs(other - right)) == pytest.approx(0.10, abs=0.005)


@pytest.mark.parametrize("schedules", [(LINEAR, SCALED), (SCALED, LINEAR)])
def test_of_a_network_of_the_image_two_schedules_that_are_alike_move_what_is_measured_by_as_much_as_the_page_says(
    schedules,
):
    other, right = (
        rates_from_losses(
            told(network("x0", schedule), "x0", schedules[1]),
            IMAGES,
            schedules[1],
            EDGES,
            np.random.default_rng(1),
            "x",
        ).centroids()
        for schedule in schedules
    )
    assert np.abs(other - right)[:-1].max() < 0.035
    assert 0.05 < np.abs(other - right)[-1] < 0.175


def test_what_another_time_gains_is_beyond_chance():
    own, half = np.array([2.0, 2.0, 2.0, 2.0]), np.array([1.0, 1.0, 1.0, 1.0])
    assert _gained(own, half) == pytest.approx(np.log(2))
    assert _gained(own, own) == _gained(half, own) == 0
    assert _gained(own, 0 * own) == np.inf
    # One image of four gains and three lose: chance.
    assert _gained(np.array([0.1, 0.1, 0.1, 5.0]), np.array([0.12, 0.12, 0.12, 0.1])) == 0
    assert _gained(own[:1], half[:1]) == 0


@pytest.mark.parametrize("returns", ["x0", "epsilon"])
def test_a_network_that_knows_its_images_by_heart_is_measured_on_them(returns):
    """Told less noise it finds the image at once, or a wrong one: a gain in the mean of a few, and chance."""
    known = FiniteDataset(IMAGES)

    def recalled(x: np.ndarray, times: np.ndarray) -> np.ndarray:
        a = float(COSINE.alpha(times[0]))
        estimate = known.denoise(x, a)
        return OUTPUTS[returns](estimate, (x - np.sqrt(a) * estimate) / np.sqrt(1 - a), a)

    edges, by_heart = EDGES[1:], told(recalled, returns)
    found, exact = (
        rates_from_losses(each, IMAGES, COSINE, edges, np.random.default_rng(1), "x").rates
        for each in (by_heart, known.denoise)
    )
    assert found.shape == exact.shape
    if returns == "x0":  # whose estimates weigh alike at all times, as those of a formula do
        np.testing.assert_allclose(found, exact, atol=1e-6)


@pytest.mark.lasting
@pytest.mark.parametrize("returns", ["x0", "v", "epsilon"])
def test_a_network_that_hears_no_time_gains_nothing_by_another(returns):
    """A blind denoiser finds the noise level by itself, so no time that it is told can be wrong."""

    def blind(x: np.ndarray, times: np.ndarray) -> np.ndarray:
        # The noise level as far as the finest band shows it, for each image alone.
        finest = np.square(x - x.reshape(*x.shape[:2], 8, 2, 8, 2).mean((3, 5)).repeat(2, 2).repeat(2, 3)).mean(
            (1, 2, 3)
        )
        a = np.clip(1 - finest / 0.75, 0.01, 0.99)
        estimate = np.concatenate([FIELD.denoise(one[None], float(power)) for one, power in zip(x, a, strict=True)])
        a = a.reshape(-1, 1, 1, 1)
        return OUTPUTS[returns](estimate, (x - np.sqrt(a) * estimate) / np.sqrt(1 - a), a)

    network_, alphas = told(blind, returns), np.array([0.1, 0.5, 0.9])
    for alpha in alphas:
        x_t = np.sqrt(alpha) * IMAGES[:4] + np.sqrt(1 - alpha) * WHITE[:4]
        np.testing.assert_array_equal(network_.output(x_t, alpha), network_.output(x_t, alpha, of_time=0.3))
    assert np.all(np.isfinite(rates_from_losses(network_, IMAGES, COSINE, EDGES, np.random.default_rng(1), "x").rates))


def test_a_schedule_that_passes_hardly_moves_what_is_measured_on_images():
    def noisier(by: float) -> Denoiser:
        """The exact network, told a log SNR that is less than it takes it for."""

        def predict(x: np.ndarray, times: np.ndarray) -> np.ndarray:
            alpha = 1 / (1 + np.exp(-COSINE.log_snr(float(times[0])) - by))
            return (x - np.sqrt(alpha) * FIELD.denoise(x, alpha)) / np.sqrt(1 - alpha)

        return told(predict, "epsilon")

    def mean_times(by: float) -> np.ndarray:
        measured = rates_from_losses(noisier(by), IMAGES, COSINE, EDGES, np.random.default_rng(1), "x")
        return measured.centroids()[:-1]

    exact = mean_times(0.0)
    for by in (-0.3, 0.3):
        assert np.abs(mean_times(by) - exact).max() < 0.03
    for by in (-0.8, 0.8):
        with pytest.raises(ValueError, match=NOISE):
            mean_times(by)
        assert refused(rates_from_sampling, noisier(by), WHITE, COSINE, EDGES, 1, "x", why=NOISE) == "refused"


def test_the_range_of_a_network_changes_nothing_on_samples_of_its_own():
    fn = network("epsilon", unit=True)
    mistaken, right = (
        rates_from_sampling(Denoiser(fn, "epsilon", COSINE, value_range=ends), WHITE, COSINE, EDGES, 1, "x")
        for ends in ((-1, 1), (0, 1))
    )
    assert np.abs(mistaken.centroids() - right.centroids())[:-1].max() < 0.01


def test_a_network_that_draws_in_one_step_is_refused():
    """What it returns is a sample, and no mean: a distilled network, whose "estimates" show all bands at once."""

    def sampler(x: np.ndarray, times: np.ndarray) -> np.ndarray:
        alpha = float(COSINE.alpha(float(times[0])))
        *_, last = ddim(FIELD.denoise, x, np.cos(np.linspace(np.arccos(np.sqrt(alpha)), 0.01, 20)) ** 2)
        return last.estimate

    with pytest.raises(ValueError, match=NOISE):
        rates_from_losses(told(sampler, "x0"), IMAGES[:8], COSINE, EDGES, np.random.default_rng(1), "x")


def test_a_start_by_any_common_seed_is_independent_of_the_noise_of_the_check():
    """Else the noise of the check is in the samples, and an exact network seems to misjudge it."""
    steep = GaussianField(0.1 * 3.0 ** np.arange(5), np.random.default_rng(6).standard_normal((1, 16, 16)), channels=1)
    exact = Denoiser(lambda x, t: steep.denoise(x, float(COSINE.alpha(t[0]))), "x0", COSINE)
    for seed in range(4):
        start = np.random.default_rng(seed).standard_normal((3, 1, 16, 16))
        assert rates_from_sampling(exact, start, COSINE, EDGES, 1, "exact").images == 3


BARE = {
    "the linear schedule told as the cosine": NOISE,
    "the linear schedule told as the scaled linear": NOISE,
    "a flow told without the shift 3 that it has": NOISE,
    "the noise told as the image": FOREIGN,
    "the clock of a flow alone": FOREIGN,
}


@pytest.mark.parametrize("mistake", BARE)
def test_a_bare_function_must_know_samples_of_its_own(mistake):
    network = MISTAKES[mistake]
    wide = Denoiser(network._fn, network.prediction, network.schedule, value_range=(-np.inf, np.inf))
    edges = 0.999 * np.linspace(wide.schedule.start, wide.schedule.end, 21)
    with pytest.raises(ValueError, match=BARE[mistake]):
        rates_from_sampling(lambda x_t, alpha: wide(x_t, alpha), WHITE, wide.schedule, edges, 1, "bare")


@pytest.mark.parametrize("first", [0.0, 0.3, 0.6])
def test_the_grid_of_the_user_hides_no_mistake(first):
    edges = np.linspace(first, 1, 11)
    for name in ("the sign of the noise", "the sign of a flow", "the linear schedule told as the cosine"):
        wrong = MISTAKES[name]
        assert refused(rates_from_sampling, wrong, WHITE[:1], wrong.schedule, edges, 1, "x", why=FOREIGN) == "refused"
        rng = np.random.default_rng(1)
        assert refused(rates_from_losses, wrong, IMAGES, wrong.schedule, edges, rng, "x", why=BLIND) == "refused"


@pytest.mark.parametrize("batches", [[1, 7], [2, 2, 2, 2]])
def test_small_batches_hide_no_mistake(batches):
    exact = GaussianField([1.0, 2.0, 8.0, 30.0], channels=1)
    white = np.split(np.random.default_rng(0).standard_normal((8, 1, 8, 8)), np.cumsum(batches)[:-1])

    def velocity(x: np.ndarray, times: np.ndarray) -> np.ndarray:
        t = float(times[0])
        return (x - exact.denoise(x / np.hypot(t, 1 - t), float(FLOW.alpha(t)))) / max(t, 1e-6)

    assert rates_from_sampling(Denoiser(velocity, "flow", FLOW), iter(white), FLOW, EDGES, 1, "x").images == 8
    turned = Denoiser(lambda x, t: -velocity(x, t), "flow", FLOW)
    assert refused(rates_from_sampling, turned, iter(white), FLOW, EDGES, 1, "x", why=FOREIGN) == "refused"


def test_conditions_of_each_image_belong_to_one_batch():
    labelled = Denoiser(lambda x, t, _: network("x0")(x, t), "x0", COSINE, condition=np.arange(4))
    halves = np.split(WHITE, 2)
    measures = (
        lambda: rates_from_sampling(labelled, halves, COSINE, EDGES, 1, "x"),
        lambda: rates_from_losses(labelled, np.split(IMAGES[:8], 2), COSINE, EDGES, np.random.default_rng(0), "x"),
        lambda: guidance_from_sampling(labelled, OWN["image"], halves, COSINE, EDGES, 1.0, "x"),
    )
    for measure in measures:
        with pytest.raises(ValueError, match="a condition for each image is measured on one batch"):
            measure()


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_exact_denoisers_of_any_scale_know_their_samples(scale):
    posteriors = [GaussianField(scale**2 * variance ** np.arange(5.0), channels=1) for variance in (0.5, 1.0, 4.0)]
    for posterior in [*posteriors, FiniteDataset(scale * IMAGES[:8, :1])]:
        exact = Denoiser(lambda x, t: posterior.denoise(x, float(COSINE.alpha(t[0]))), "x0", COSINE)  # noqa: B023
        for model in (posterior.denoise, *[exact] * (posterior is posteriors[-1])):
            measured = rates_from_sampling(model, WHITE[:, :1], COSINE, EDGES, 1, "exact")
            assert measured.images == len(WHITE)


@pytest.mark.parametrize("denoise", [pytest.param(each, id=name) for name, each in OWN.items()])
def test_a_network_in_its_own_convention_is_measured_as_the_exact_estimate_is(denoise):
    def centroids(model: Any) -> np.ndarray:
        rng, schedule = np.random.default_rng(1), denoise.schedule
        by_losses = rates_from_losses(model, IMAGES, schedule, EDGES, rng, "own").centroids()
        sampled = rates_from_sampling(model, WHITE, schedule, EDGES, 1, "own").centroids()
        return np.stack([by_losses, sampled])[:, :-1]  # one number of an image hardly grows

    # Estimates of a noise prediction are clipped, and those of a field are not.
    assert np.abs(centroids(denoise) - centroids(FIELD.denoise)).max() < 0.01
    assert band_information(denoise, denoise, IMAGES, LOG_SNR, np.random.default_rng(1)).by_guidance.total == 0
    assert not guidance_from_sampling(denoise, denoise, WHITE, denoise.schedule, EDGES, 2.0, "own").rates.any()
    few = rates_from_sampling(denoise, WHITE, denoise.schedule, np.linspace(0, 1, 4), 1, "few steps")
    assert few.images == len(WHITE)


@pytest.mark.parametrize("scale", [lambda x: (x + 1) / 2, lambda x: 255 * (x + 1) / 2], ids=["0 to 1", "0 to 255"])
def test_images_in_another_range_are_refused(scale):
    rng, images = np.random.default_rng(1), scale(IMAGES)
    for measure in (
        lambda: rates_from_losses(OWN["noise"], images, COSINE, EDGES, rng, "scaled"),
        lambda: band_information(OWN["noise"], OWN["noise"], images, LOG_SNR, rng),
    ):
        with pytest.raises(ValueError, match=r"to 25\d.*: images / 127\.5 - 1$|from 0 to 1, scale them$"):
            measure()


SCALED: dict[str, Callable[[np.ndarray], Any]] = {
    "band_spectrum": band_spectrum,
    "measure_spectrum": measure_spectrum,
    "GaussianField.fit": GaussianField.fit,
    "GaussianField.fit in colour": lambda x: GaussianField.fit(x, colour=True),
    "GaussianMixture.fit": lambda x: GaussianMixture.fit(x, 2, np.random.default_rng(0)),
    "FiniteDataset": FiniteDataset,
    "WindowMixture": lambda x: WindowMixture(x, np.random.default_rng(0), 2, 200),
    "NearestImage": lambda x: NearestImage(x, np.random.default_rng(0), 2, 200),
    "ScaleMixture": ScaleMixture,
    "predicted_times": lambda x: predicted_times(x, x, COSINE, np.random.default_rng(0)),
    "band_losses": lambda x: band_losses(FIELD.denoise, x, COSINE, EDGES, np.random.default_rng(0)),
    "band_information": lambda x: band_information(FIELD.denoise, FIELD.denoise, x, LOG_SNR, np.random.default_rng(0)),
}
LAID_OUT: dict[str, Callable[[np.ndarray], Any]] = {
    "band_spectrum": band_spectrum,
    "measure_spectrum": measure_spectrum,
    "GaussianField.fit": GaussianField.fit,
    "FiniteDataset": FiniteDataset,
    "survival": lambda x: survival(x, x),
    "decided_share": lambda x: decided_share(x, x, -x),
    "band_information": SCALED["band_information"],
}


@pytest.mark.parametrize("given", [pytest.param(each, id=name) for name, each in SCALED.items()])
def test_values_from_0_to_255_are_refused(given):
    with pytest.raises(ValueError, match=r"got values from 0 to 25\d.*: images / 127\.5 - 1$"):
        given(np.round(127.5 * (IMAGES + 1)))


@pytest.mark.parametrize(
    ("files", "half"),
    [(127.5 * (IMAGES + 1) + 0.3, "127.5"), (np.round(32767.5 * (IMAGES + 1)), "32767.5")],
    ids=["resized", "16 bits"],
)
def test_files_of_other_depths_are_refused(files, half):
    with pytest.raises(ValueError, match=rf"got values from 0(\.3)? to \d+\.?\d*: images / {half} - 1$"):
        band_spectrum(files)


@pytest.mark.parametrize("brightest", [40.0, 100.0, 5e3])
def test_measurements_that_are_never_negative_are_no_files(brightest):
    """A flux has a unit of its own, and its noise too; a linear denoiser loses what the second moments tell."""
    flux, schedule = brightest * (IMAGES + 1) / 2, Schedule.edm(brightest)
    field, levels = GaussianField.fit(flux), brightest * np.array([0.01, 0.1, 1.0])
    losses = band_losses(field.denoise, flux, schedule, levels, np.random.default_rng(2))
    # The noise of 32 images leaves a tenth of a band of 96 numbers to chance.
    np.testing.assert_allclose(losses.mean, field.losses(schedule.alpha(levels)), rtol=0.25)


@pytest.mark.parametrize("given", [pytest.param(each, id=name) for name, each in LAID_OUT.items()])
def test_channels_last_are_refused(given):
    with pytest.raises(ValueError, match=r"got \(32, 16, 16, 3\), channels last: np\.moveaxis\(images, -1, 1\)$"):
        given(np.moveaxis(IMAGES, 1, -1))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
@pytest.mark.parametrize("size", [4, (4, 3), (3, 8), (8, 2)])
def test_images_of_the_model_are_none_of_a_file(size, scale):
    height, width = (size, size) if isinstance(size, int) else size
    images = scale * np.random.default_rng(0).standard_normal((3, 16, height, width))
    assert np.all(np.isfinite(band_spectrum(images)))
    assert np.all(np.isfinite(band_spectrum(np.abs(images) + 4 * scale)))  # no dark pixel


def test_a_table_of_what_each_step_keeps_is_refused():
    betas = np.linspace(1e-4, 0.02, 1000)
    assert Schedule.from_alphas(np.cumprod(1 - betas)).end == 999
    with pytest.raises(ValueError, match=r"got 0\.98: is it 1 - beta .* np\.cumprod$"):
        Schedule.from_alphas(1 - betas)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_each_image_may_have_a_condition_of_its_own(kind):
    brighter = np.linspace(-0.2, 0.2, len(WHITE))
    exact = network("x0")

    def conditional(x: Any, times: Any, shift: Any) -> Any:
        moved, times = np.asarray(shift)[:, None, None, None], np.asarray(times)
        found = exact(np.asarray(x) - np.sqrt(COSINE.alpha(float(times[0]))) * moved, times) + moved
        return torch.from_numpy(found) if kind == "torch" else found

    labelled = Denoiser(conditional, "x0", COSINE, condition=brighter)
    measured = rates_from_sampling(labelled, WHITE, COSINE, EDGES, 1, "labelled")
    assert measured.images == len(WHITE)
    guidance = guidance_from_sampling(labelled, told(exact, "x0"), WHITE, COSINE, EDGES, 2.0, "labelled")
    assert guidance.images == len(WHITE)


def test_a_network_that_errs_in_noise_is_measured():
    exact = network("epsilon")

    def worse(x: np.ndarray, times: np.ndarray) -> np.ndarray:
        return exact(x, times) + float(times[0]) ** 8 * np.random.default_rng(3).standard_normal(x.shape)

    rng, denoise = np.random.default_rng(1), told(worse, "epsilon")
    measured = rates_from_losses(denoise, IMAGES, COSINE, EDGES, rng, "errs")
    assert measured.noise_error > 0.05
    # What it loses beyond all there is counts for nothing.
    assert (measured.rates * np.diff(EDGES)).sum() <= (IMAGES**2).sum() / len(IMAGES) * (1 + 1e-12)
    # In noise alone it may err more than images of zeros do.
    in_noise = rates_from_losses(denoise, IMAGES, COSINE, np.linspace(0.9, 1, 5), rng, "in noise")
    assert in_noise.images == len(IMAGES)
    assert rates_from_sampling(denoise, WHITE, COSINE, EDGES, 1, "errs").images == len(WHITE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [("pocket-lowres-16", "photographs"), ("pocket-lowres-32", "photographs"), ("pocket-lowres-32", "textures")],
)
def test_networks_of_fruit_are_measured_on_images_that_they_never_saw(name, kind):
    pipeline = load_pipeline(f"data/models/{name}")
    schedule, size = Schedule.from_diffusers(pipeline.scheduler), pipeline.unet.config.sample_size
    images = photos(kind, 6, size=size, generator=np.random.default_rng(0))
    denoise, edges = network_denoiser(pipeline), np.linspace(0, 999, 13)
    white = np.random.default_rng(2).standard_normal(images.shape)
    for measured in (
        rates_from_losses(denoise, images, schedule, edges, np.random.default_rng(1), name),
        rates_from_sampling(denoise, white, schedule, edges, 1, name),
    ):
        assert measured.images == len(images)
    asked = _asked(denoise, images, *_ends(denoise))
    assert asked is not None
    assert np.median(asked.gain) < 0.005  # the page says nothing; refused are 0.03
