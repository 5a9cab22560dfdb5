"""Denoisers fitted to clean images: mixtures of windows, and the nearest image of a set."""

from types import SimpleNamespace

import numpy as np
import pytest
from doors.door import Row, refuse
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from reschrom import FiniteDataset, GaussianField, NearestImage, Schedule, WindowMixture, band_energies
from reschrom.denoisers import windows
from reschrom.denoisers.losses import band_losses

TIMES = np.linspace(0, 1, 9)
DIGITS = load_digits().images[:, None] / 8 - 1  # one channel, 8x8 pixels


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def losses(denoise, images):
    return band_losses(denoise, images, Schedule.cosine(), TIMES, np.random.default_rng(1)).mean


def test_one_component_is_the_linear_filter_of_a_gaussian_field(generator):
    field = GaussianField([0.1, 0.4, 2.0, 5.0, 9.0], channels=2)
    known, new = field.sample(600, generator), field.sample(40, generator)
    found = losses(WindowMixture(known, generator, 1, 30_000).denoise, new)
    # less than 3 % of a band's energy is lost to the chance of 600 images
    excess = (found - losses(field.denoise, new)) / band_energies(new).mean(axis=1)[:, None]
    assert np.abs(excess).max() < 0.03


def test_what_the_image_is_made_of_is_put_together_again(generator):
    images = generator.standard_normal((3, 2, 16, 16))
    seen = windows._windows(images)
    assert seen.shape == (3, 8, 8, 2 * 28)
    np.testing.assert_array_equal(windows._blocks_of(seen[..., windows._block(2)]), images)
    known = WindowMixture(generator.standard_normal((20, 2, 16, 16)), generator, 3)
    np.testing.assert_allclose(known.denoise(images, 1.0), images, atol=1e-5)  # single precision


def test_the_numbers_of_a_window_have_white_noise(generator):
    noise = windows._windows(generator.standard_normal((2000, 1, 16, 16)))[:, 4, 4]
    np.testing.assert_allclose(noise.T @ noise / len(noise), np.eye(28), atol=0.12)  # 5 standard errors


def test_pure_noise_tells_nothing(generator):
    known = WindowMixture(generator.uniform(-1, 1, (30, 3, 16, 16)), generator, 4)
    first, second = known.denoise(generator.standard_normal((2, 3, 16, 16)), 0.0)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_the_posterior_of_a_mixture_is_that_of_bayes(generator):
    # images of 2x2 pixels are one window; two kinds, far apart, and a noise between them
    kinds = np.array([-1.0, 1.5])[generator.integers(2, size=4000), None, None, None]
    known = WindowMixture(kinds + 0.3 * generator.standard_normal((4000, 1, 2, 2)), generator, 2)
    x_t, alpha = generator.standard_normal((50, 1, 2, 2)), 0.2
    flat, variance = x_t.reshape(50, 4), alpha * (0.3**2 + 0.01) + 1 - alpha  # 0.01 is what every component is given
    centres = np.array([[-1.0], [1.5]]) * np.ones(4)
    away = flat[:, None] - np.sqrt(alpha) * centres
    shares = softmax(-np.square(away).sum(-1) / 2 / variance, axis=1)[..., None]
    expected = (shares * (centres + np.sqrt(alpha) * (0.3**2 + 0.01) / variance * away)).sum(axis=1)
    np.testing.assert_allclose(known.denoise(x_t, alpha).reshape(50, 4), expected, atol=0.05)


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
@pytest.mark.parametrize(
    ("vectors", "components"),
    [
        pytest.param(DIGITS.reshape(-1, 64), 1, id="one component"),
        pytest.param(DIGITS.reshape(-1, 64), 20, id="digits"),
        pytest.param(3 + 5 * DIGITS[:, 0, :, 3], 12, id="few numbers, off the origin"),
        pytest.param(np.repeat(DIGITS[:9, 0, 2], 30, axis=0), 15, id="fewer kinds than components"),
    ],
)
def test_a_mixture_is_fitted_as_by_scikit_learn(vectors, components):
    fitted = windows._Mixture.fit(vectors, components, np.random.default_rng(4))
    seed = int(np.random.default_rng(4).integers(2**31))
    same = {"reg_covar": windows._LEAST, "max_iter": windows._ROUNDS, "random_state": seed}
    expected = GaussianMixture(components, **same).fit(vectors.astype(np.float32))
    covariances = (fitted.directions * fitted.variances[:, None]) @ fitted.directions.swapaxes(1, 2)
    # in single precision; a component without vectors may be anywhere
    real = expected.weights_ > 1e-6
    np.testing.assert_allclose(fitted.weights, expected.weights_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(fitted.means[real], expected.means_[real], rtol=0, atol=1e-4)
    np.testing.assert_allclose(covariances[real], expected.covariances_[real], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_more_components_know_edges_that_a_field_does_not(generator):
    # one vertical edge of either sign in every image, anywhere
    places = generator.integers(2, 15, size=300)
    images = np.where(np.arange(16) < places[:, None], 1.0, -1.0)[:, None, None, :] * np.ones((300, 1, 16, 1))
    one, many = (losses(WindowMixture(images[:250], generator, k).denoise, images[250:]) for k in (1, 40))
    assert np.all(many[0, 2:6] < 0.5 * one[0, 2:6])


def test_the_estimate_does_not_depend_on_the_company(generator):
    known = WindowMixture(generator.uniform(-1, 1, (30, 1, 32, 32)), generator, 4, 500)
    x_t = generator.standard_normal((18, 1, 32, 32))  # more windows than are denoised together
    np.testing.assert_allclose(known.denoise(x_t, 0.4)[3:4], known.denoise(x_t[3:4], 0.4), atol=1e-5)


def test_the_same_generator_makes_the_same_denoiser(generator):
    images, x_t = generator.uniform(-1, 1, (30, 1, 16, 16)), generator.standard_normal((1, 1, 16, 16))
    for kind in (WindowMixture, NearestImage):
        first, second = (kind(images, np.random.default_rng(5), 4, 400).denoise(x_t, 0.4) for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_copies_are_known_by_their_neighbour_in_a_mirror_too(generator):
    # ten originals, each filmed six times with a little noise
    originals = np.repeat(generator.uniform(-1, 1, (10, 1, 16, 16)), 6, axis=0)
    films = originals + 0.05 * generator.standard_normal(originals.shape)
    near = NearestImage(films[1:], generator, 1)
    assert near.shares.min() > 0.9
    new = (originals[:1] + 0.05 * generator.standard_normal((1, 1, 16, 16)))[..., ::-1]
    x_t = np.sqrt(0.5) * new + np.sqrt(0.5) * generator.standard_normal((1, 1, 16, 16))
    alone = WindowMixture(films[1:], generator, 1).denoise(x_t, 0.5)
    found = near.denoise(x_t, 0.5)
    assert np.square(found - new).mean() < 0.1 * np.square(alone - new).mean()
    # nothing beyond the set is known of a picture that is in no way like it
    assert NearestImage(generator.standard_normal((60, 1, 16, 16)), generator, 1).shares[0] < 0.3


@pytest.mark.parametrize("kind", [WindowMixture, NearestImage])
def test_digits_in_a_mirror_are_no_digits(kind):
    known, new = DIGITS[200:1000], DIGITS[:200]
    plain, mirrored = (
        losses(kind(known, np.random.default_rng(0), 5, mirror=mirror).denoise, new) for mirror in (False, True)
    )
    assert plain[:, 1:-1].sum() < 0.97 * mirrored[:, 1:-1].sum()


def test_windows_of_digits_tell_more_than_their_spectrum(generator):
    known, new = DIGITS[200:1000], DIGITS[:200]
    mixture, field = WindowMixture(known, generator, 5, mirror=False), GaussianField.fit(known)
    found, by_field = (losses(each.denoise, new)[:, 1:-1].sum() for each in (mixture, field))
    assert found < 0.75 * by_field


def test_the_nearest_image_is_the_mirror_image_where_mirrors_count(generator):
    images = generator.standard_normal((20, 1, 8, 8))
    twins = np.concatenate([images, images[..., ::-1] + 0.01 * generator.standard_normal(images.shape)])
    with_mirror, without = (NearestImage(twins, generator, 1, mirror=mirror).shares for mirror in (True, False))
    assert with_mirror.min() > 0.99
    assert without[0] < 0.6


@pytest.mark.parametrize("mirror", [True, False])
def test_what_is_left_of_the_nearest_image_is_mirrored_as_the_images_are(mirror, generator, monkeypatch):
    monkeypatch.setattr(windows, "WindowMixture", lambda *given: given)
    *_, of_the_rest = NearestImage(DIGITS[:9], generator, mirror=mirror).rest
    assert of_the_rest is mirror


@pytest.mark.parametrize("side", [4, 16])
def test_a_mirror_doubles_the_images(generator, side):
    images, x_t = generator.uniform(-1, 1, (30, 1, side, side)), generator.standard_normal((2, 1, side, side))
    mirrored = np.concatenate([images, images[..., ::-1]])
    by_hand = WindowMixture(mirrored, np.random.default_rng(5), 4, 400, mirror=False)
    asked = WindowMixture(images, np.random.default_rng(5), 4, 400, mirror=True)
    np.testing.assert_array_equal(by_hand.denoise(x_t, 0.4), asked.denoise(x_t, 0.4))


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("kind", [WindowMixture, NearestImage])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_images_of_any_dtype_are_fitted_as_in_double_precision(kind, dtype):
    images = (8 * DIGITS[:60] + 8).astype(dtype)  # whole numbers to 16, whose squares pass what a byte holds
    found, expected = (kind(each, np.random.default_rng(0), 2) for each in (images, images.astype(np.float64)))
    np.testing.assert_array_equal(found.denoise(DIGITS[:3], 0.5), expected.denoise(DIGITS[:3], 0.5))


@pytest.mark.lasting
def test_smooth_images_of_a_wide_range_are_fitted(generator):
    # of their covariance, single precision would keep no sign of the floor under the variances
    images = generator.integers(-128, 128, size=(300, 1, 1, 1)) * np.ones((1, 3, 16, 16))
    known = WindowMixture(images, generator, 3)
    np.testing.assert_allclose(known.denoise(images[:3], 1.0), images[:3], atol=1e-3)


def test_the_nearest_image_is_at_the_least_distance_whatever_its_size(generator):
    sizes = np.linspace(0.2, 3, 12)[:, None, None, None]
    images = sizes * (1 + 0.1 * generator.standard_normal((12, 1, 4, 4)))
    nearest, alpha, left = NearestImage(images, generator, 1, 40), 0.6, []
    x_t = np.sqrt(alpha) * images + 0.1 * generator.standard_normal(images.shape)
    nearest.rest = SimpleNamespace(denoise=lambda rest, _: left.append(rest) or rest)
    nearest.denoise(x_t, alpha)
    every = x_t[:, None] - np.sqrt(alpha) * (nearest.mean + nearest._scaled)
    np.testing.assert_allclose(np.square(left[0]).sum((1, 2, 3)), np.square(every).sum((2, 3, 4)).min(1))


def test_an_image_is_not_its_own_neighbour(generator):
    images = generator.standard_normal((40, 1, 8, 8))
    symmetric = images + images[..., ::-1]
    assert NearestImage(symmetric, generator, 1).shares[0] < 0.6


def test_the_finite_set_is_a_bound_that_a_neighbour_does_not_pass(generator):
    images = generator.standard_normal((40, 1, 8, 8))
    exact, near = (losses(each.denoise, images) for each in (FiniteDataset(images), NearestImage(images, generator, 1)))
    assert np.all(exact[:, 1:-1] <= near[:, 1:-1] + 1e-9)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (np.zeros((4, 3, 8, 4)), {}, r"2 or more square images.*got \(4, 3, 8, 4\)"),
        (np.zeros((1, 3, 8, 8)), {}, r"2 or more square images.*got \(1, 3, 8, 8\)"),
        (np.zeros((4, 3, 12, 12)), {}, r"S a power of two; got \(4, 3, 12, 12\)"),
        (np.full((4, 3, 8, 8), np.nan), {}, "finite"),
        (np.zeros((4, 3, 8, 8)), {"components": 0}, "one or more components"),
        (np.zeros((4, 3, 8, 8)), {"windows": 1}, "two or more windows"),
    ],
)
def test_what_holds_no_windows_is_refused(images, settings, message, generator):
    with pytest.raises(ValueError, match=message):
        WindowMixture(images, generator, **settings)


def test_two_images_have_no_neighbours_to_learn_from(generator):
    with pytest.raises(ValueError, match=r"3 or more square images.*got \(2, 3, 8, 8\)"):
        NearestImage(np.zeros((2, 3, 8, 8)), generator)
    with pytest.raises(ValueError, match=r"noised images of the shape"):
        NearestImage(generator.standard_normal((5, 1, 8, 8)), generator, 1).denoise(np.zeros((1, 1, 4, 4)), 0.5)


MIRRORS = {
    "windows in a number": Row(lambda: WindowMixture(DIGITS, np.random.default_rng(0), mirror=1), TypeError, r"got 1$"),
    "nearest in a word": Row(
        lambda: NearestImage(DIGITS, np.random.default_rng(0), mirror="no"), TypeError, r"True or False; got 'no'"
    ),
    "nearest in nothing": Row(
        lambda: NearestImage(DIGITS, np.random.default_rng(0), mirror=None), TypeError, r"True or False; got None"
    ),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("row", MIRRORS)
def test_what_is_no_choice_of_mirror_is_refused(row, tmp_path):
    refuse(MIRRORS[row], tmp_path)
