"""Bands of any height and width, against cells that are built here pixel by pixel, and all that goes on with them."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from reschrom import (
    Chromatogram,
    GaussianField,
    GaussianMixture,
    MeasuredSpectrum,
    Schedule,
    band_energies,
    band_names,
    band_sizes,
    band_spectrum,
    bands,
    cascaded_noise,
    chromatography,
    depth,
    designed_schedule,
    designed_timesteps,
    downsample,
    from_bands,
    measure_spectrum,
    photos,
    plots,
    rates_from_losses,
    rates_from_sampling,
    residual_target,
    survival,
    switch_time,
    threshold,
    thresholded_noise,
    time_per_band,
    upsample,
)
from reschrom.cli.commands import main
from reschrom.images.pictures import stream
from reschrom.pipelines.prompt_weights import mixed
from reschrom.theory.bands import size_of
from reschrom.theory.cells import cells

NAMED = [(28, 28), (96, 96), (104, 152), (160, 90), (90, 160), (1, 1), (1, 300), (300, 2), (3, 3), (13, 19), (257, 129)]
SIZES = NAMED + [tuple(sides) for sides in np.random.default_rng(0).integers(1, 301, (500, 2)).tolist()]
SMALL = [*itertools.product(range(1, 8), range(1, 8)), (13, 19), (28, 28)]


def partition(side: int, level: int) -> list[list[int]]:
    """Return the pixels of every cell, by the rule as a reader is told it."""
    groups = [[pixel] for pixel in range(side)]
    for _ in range(level):
        odd = len(groups) % 2 == 1
        joined = [groups.pop(0)] if odd and len(groups[0]) > len(groups[-1]) else []
        while len(groups) > 1:
            joined.append(groups.pop(0) + groups.pop(0))
        groups = joined + groups
    return groups


def averaged(x: np.ndarray, level: int) -> np.ndarray:
    """Return the mean of all pixels of every cell."""
    for axis in (-2, -1):
        groups = partition(x.shape[axis], level)
        counts = np.array([len(group) for group in groups]).reshape((-1, 1) if axis == -2 else -1)
        x = np.add.reduceat(x, [group[0] for group in groups], axis) / counts
    return x


def enlarged(cells_: np.ndarray, height: int, width: int, level: int) -> np.ndarray:
    """Give every pixel the value of its cell."""
    for axis, side in ((-2, height), (-1, width)):
        cells_ = np.repeat(cells_, [len(group) for group in partition(side, level)], axis)
    return cells_


def projected(x: np.ndarray) -> list[np.ndarray]:
    """Return U^m D^m of an image for every level, down to one cell on the shorter side."""
    levels = next(m for m in itertools.count() if min(len(partition(side, m)) for side in x.shape[-2:]) == 1)
    return [enlarged(averaged(x, m), *x.shape[-2:], m) for m in range(levels + 1)]


def full_bands(x: np.ndarray) -> list[np.ndarray]:
    """Return every band at full resolution."""
    smooth = projected(x)
    return [a - b for a, b in itertools.pairwise(smooth)] + smooth[-1:]


@pytest.mark.lasting
@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(100, len(SIZES), 100))]
)
def test_bands_of_any_size_are_an_orthogonal_decomposition_over_cells(first):
    for height, width in SIZES[first : first + 100]:
        x = np.random.default_rng([height, width]).standard_normal((height, width))
        pyramid, expected = bands(x), full_bands(x)
        assert len(pyramid) == len(expected) == depth((height, width)) + 1
        assert [f"{a}x{b}" for a, b in (band.shape for band in pyramid)] == band_names((height, width))
        full = [enlarged(band, height, width, m) for m, band in enumerate(pyramid)]
        np.testing.assert_allclose(full, expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(from_bands(pyramid), x, rtol=0, atol=4e-15 * np.abs(x).max())
        flat = np.reshape(full, (len(full), -1))
        products, energy = flat @ flat.T, np.square(x).sum()
        np.testing.assert_allclose(products - np.diag(products.diagonal()), 0, atol=1e-13 * energy)
        energies = band_energies(x[None])
        np.testing.assert_allclose(energies, products.diagonal(), rtol=1e-11, atol=1e-13 * energy)
        assert energies.sum() == pytest.approx(energy, rel=1e-12)
        counts = [len(partition(height, m)) * len(partition(width, m)) for m in range(len(full))]
        assert band_sizes((height, width)) == [a - b for a, b in itertools.pairwise([*counts, 0])]
        assert min(band_sizes((height, width))) > 0


@pytest.mark.lasting
@pytest.mark.parametrize("library", [np.asarray, torch.asarray])
def test_white_noise_has_as_much_energy_in_a_band_as_it_has_coefficients(library):
    # The energies of all images of one bright pixel sum to the trace of the projection onto a band.
    for height, width in SMALL:
        bright = np.eye(height * width).reshape(-1, 1, height, width)
        for levels in (None, *range(depth((height, width)))):
            traces = np.asarray(band_energies(library(bright), levels)).sum(axis=1)
            np.testing.assert_allclose(traces, band_sizes((height, width), levels), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", SIZES[:40])
def test_torch_and_every_dtype_have_the_same_bands(size, dtype):
    x = np.random.default_rng(1).standard_normal((2, 3, *size))
    tolerance = {"float16": 5e-3, "float32": 3e-6, "float64": 1e-14}[dtype]
    for given in (x.astype(dtype), torch.asarray(x.astype(dtype))):
        pyramid = bands(given)
        back = from_bands(pyramid)
        assert all(type(band) is type(given) and band.dtype == given.dtype for band in [*pyramid, back])
        np.testing.assert_allclose(np.asarray(back), np.asarray(given), rtol=0, atol=2 * tolerance)
        for ours, expected in zip(pyramid, bands(x), strict=True):
            np.testing.assert_allclose(np.asarray(ours), expected, rtol=0, atol=tolerance)


@pytest.mark.lasting
def test_gradients_pass_through_cells_that_stay_alone():
    x = torch.randn(1, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: tuple(bands(image)), x)
    assert torch.autograd.gradcheck(lambda image: from_bands(bands(image)), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(2**a, 2**b) for a in range(9) for b in range(9)])
def test_powers_of_two_are_halved_as_ever_to_the_last_bit(size, dtype):
    x = np.random.default_rng(2).standard_normal((2, *size)).astype(dtype)
    expected, energies, fine = [], [], x
    while min(fine.shape[-2:]) > 1:
        rows = fine[..., 0::2, :] + fine[..., 1::2, :]
        coarse = (rows[..., 0::2] + rows[..., 1::2]) * 0.25
        expected.append(fine - coarse.repeat(2, axis=-1).repeat(2, axis=-2))
        fine = coarse
    expected.append(fine)
    energies = [4.0**m * np.sum(band * band, axis=(-3, -2, -1)) for m, band in enumerate(expected)]
    for ours, theirs in zip(bands(x), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(band_energies(x), np.stack(energies))
    image = expected[-1]
    for detail in reversed(expected[:-1]):
        image = detail + image.repeat(2, axis=-1).repeat(2, axis=-2)
    np.testing.assert_array_equal(from_bands(bands(x)), image)
    levels = len(expected) - 1
    assert band_sizes(size) == [3 * (size[0] * size[1] >> 2 * m) // 4 for m in range(levels)] + [expected[-1][0].size]


@pytest.mark.lasting
def test_no_cell_is_three_times_as_wide_as_another():
    assert [cells(7, m) for m in range(4)] == [(1,) * 7, (2, 2, 2, 1), (4, 3), (7,)]
    assert [cells(5, m) for m in range(1, 4)] == [(2, 2, 1), (2, 3), (5,)]
    for side in range(1, 1025):
        for level in range(depth(side) + 1):
            pixels = cells(side, level)
            assert len(pixels) == -(-side // 2**level)
            assert sum(pixels) == side
            assert max(pixels) < 3 * min(pixels)


def test_blocks_are_averaged_where_sides_allow_and_bands_go_on():
    x = np.random.default_rng(3).standard_normal((28, 28))
    np.testing.assert_allclose(bands(x, levels=2)[-1], x.reshape(7, 4, 7, 4).mean(axis=(1, 3)), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(bands(x, levels=2)[-1], downsample(x, 2))
    assert upsample(downsample(x, 2), 2).shape == (28, 28)
    assert upsample(x[:3, :5], 1).shape == (6, 10)
    with pytest.raises(ValueError, match=r"level 3 of an image needs sides that are multiples of 2\^3; got 28x28"):
        downsample(x, 3)
    with pytest.raises(ValueError, match=r"a 28x28 image has levels 0 to 5; got 6"):
        bands(x, 6)


def test_names_and_sizes_go_by_height_and_width():
    assert band_names((104, 152)) == ["104x152", "52x76", "26x38", "13x19", "7x10", "4x5", "2x3", "1x2"]
    assert band_names(28) == band_names((28, 28)) == ["28x28", "14x14", "7x7", "4x4", "2x2", "1x1"]
    assert band_sizes(28) == [588, 147, 33, 12, 3, 1]
    assert band_sizes((3, 4), 1) == [8, 4]
    assert [depth(size) for size in (1, 3, 28, (104, 152), (300, 1))] == [0, 2, 5, 7, 0]
    assert (size_of(28, 28), size_of(104, 152)) == (28, (104, 152))


# A set of latents of 832x1216 pixels.
SIZE = (104, 152)
WEIGHTS = [1.0] * 4 + [2.0] * 4
SPECTRUM = [0.1, 0.3, 1.0, 2.0, 5.0, 9.0, 20.0, 30.0]


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    return GaussianField(SPECTRUM, channels=4, size=SIZE).sample(120, np.random.default_rng(4))


@pytest.mark.lasting
def test_a_spectrum_of_latents_is_measured_kept_and_predicts(latents, tmp_path):
    measured = measure_spectrum(batch for batch in np.split(latents, 6))
    assert (measured.size, measured.images) == (SIZE, 120)
    errors = np.sqrt(2 / (4 * np.array(band_sizes(SIZE)) * 119))
    assert np.all(np.abs(measured.variance / SPECTRUM - 1) < 5 * errors)
    np.testing.assert_allclose(measured.variance, band_spectrum(latents), rtol=1e-10)
    measured.save(tmp_path / "s.json")
    assert MeasuredSpectrum.load(tmp_path / "s.json").size == SIZE
    schedule = Schedule.cosine()
    predicted = Chromatogram.predicted(schedule, SIZE, tmp_path / "s.json")
    assert (predicted.size, predicted.band_names) == (SIZE, band_names(SIZE))
    alpha = schedule.alpha(predicted.times)
    # The energy that each band's estimate gains, n_m S_m^2 / (alpha S_m + 1 - alpha)^2, with its own count.
    parts = zip(band_sizes(SIZE), measured.variance, strict=True)
    rates = np.stack([n * s**2 / (alpha * s + 1 - alpha) ** 2 for n, s in parts])
    np.testing.assert_allclose(predicted.shares, rates / rates.sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(chromatography(alpha, 7, measured), rates / rates.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(chromatography(alpha, 7, measured.variance, SIZE), rates / rates.sum(axis=0), rtol=1e-12)
    paper = Chromatogram.predicted(schedule, SIZE)
    np.testing.assert_array_equal(paper.rates, Chromatogram.predicted(schedule, 128).rates)


@pytest.mark.parametrize("name", ["c.json", "c.npz"])
def test_a_chromatogram_of_any_size_is_kept_and_compared(name, tmp_path):
    predicted = Chromatogram.predicted(Schedule.cosine(), SIZE, SPECTRUM, np.linspace(0, 1, 11))
    predicted.save(tmp_path / name)
    back = Chromatogram.load(tmp_path / name)
    assert (back.size, back.name) == (SIZE, predicted.name)
    np.testing.assert_array_equal(back.rates, predicted.rates)
    assert predicted.compare(back) == (0.0, 0.0)
    assert Chromatogram.predicted(Schedule.cosine(), (64, 64)).size == 64
    other = Chromatogram.predicted(Schedule.cosine(), 104, SPECTRUM, np.linspace(0, 1, 11))
    with pytest.raises(ValueError, match=r"got 104x152 on 10 steps .* and 104x104 on"):
        predicted.compare(other)
    half = predicted.gained_share[2:]
    assert switch_time(predicted, (52, 76)) == predicted.edges[np.all(half <= 0.05, axis=0)].max()
    with pytest.raises(ValueError, match=r"one of 104x152, 52x76, .*, 2x3; got 52x52"):
        switch_time(predicted, 52)
    assert plots.heat_maps([predicted], "title").axes[0].get_yticklabels()[-1].get_text() == "104x152"
    assert predicted.to_dataframe().columns[-1] == "1x2"


@pytest.mark.lasting
def test_rates_are_measured_at_any_size():
    field, schedule, edges = GaussianField([0.1, 0.5, 3.0, 9.0], size=(6, 9)), Schedule.cosine(), np.linspace(0, 1, 17)
    rng = np.random.default_rng(5)
    predicted = Chromatogram.predicted(schedule, (6, 9), field.spectrum, edges)
    images = field.sample(500, rng)
    measured = rates_from_losses(field.denoise, images, schedule, edges, rng, "losses")
    sampled = rates_from_sampling(field.denoise, rng.standard_normal(images.shape), schedule, edges, 16, "sampling")
    for chromatogram in (measured, sampled):
        assert chromatogram.size == (6, 9)
        assert chromatogram.compare(predicted).centroid_distance < 0.02
    kept = survival(
        images, field.denoise(np.sqrt(0.4) * images + np.sqrt(0.6) * rng.standard_normal(images.shape), 0.4)
    )
    gains = 0.4 * field.spectrum / (0.4 * field.spectrum + 0.6)
    np.testing.assert_allclose(kept.share, gains, atol=0.04)
    other = GaussianField([1, 1, 1, 1], size=7).sample(10, rng)
    with pytest.raises(ValueError, match=r"all images must have one shape; got \(3, 7, 7\) after \(3, 6, 9\)"):
        rates_from_losses(field.denoise, iter([images, other]), schedule, edges, rng, "losses")


def dense(size: tuple[int, int], variances: np.ndarray) -> list[np.ndarray]:
    """Return the projection onto every band, and last the covariance, as matrices of pixels."""
    eye = np.eye(size[0] * size[1]).reshape(-1, *size)
    projections = [band.reshape(len(eye), -1) for band in full_bands(eye)]
    return [*projections, sum(v * p for v, p in zip(variances, projections, strict=True))]


@pytest.mark.parametrize("size", [(3, 5), (7, 7), (6, 1)])
def test_a_gaussian_field_of_any_size_is_solved_as_by_its_covariance(size):
    rng, alpha = np.random.default_rng(6), 0.3
    variances = rng.uniform(0.2, 9, depth(size) + 1)
    mean = rng.standard_normal((1, *size))
    field = GaussianField(variances, mean)
    *projections, covariance = dense(size, variances)
    x_t = rng.standard_normal((4, 1, *size))
    noised = alpha * covariance + (1 - alpha) * np.eye(len(covariance))
    gain = np.sqrt(alpha) * covariance @ np.linalg.inv(noised)
    expected = mean.ravel() + (x_t - np.sqrt(alpha) * mean).reshape(4, -1) @ gain
    np.testing.assert_allclose(field.denoise(x_t, alpha).reshape(4, -1), expected, atol=1e-12)
    left = covariance - np.sqrt(alpha) * gain @ covariance
    np.testing.assert_allclose(field.losses(np.array(alpha)), [np.trace(p @ left) for p in projections], rtol=1e-10)
    drawn = field.sample(4000, rng) - mean
    errors = variances * np.sqrt(2 / (np.array(band_sizes(size)) * 4000))
    assert np.all(np.abs(band_spectrum(drawn) - variances) < 5 * errors)
    # Two classes: their densities, and the guidance between them.
    other = GaussianField(variances[::-1] + 1, -mean)
    pair = GaussianMixture([field, other])
    *_, second = dense(size, variances[::-1] + 1)
    logs = []
    for sign, each in ((1, covariance), (-1, second)):
        total = alpha * each + (1 - alpha) * np.eye(len(each))
        rest = (x_t - sign * np.sqrt(alpha) * mean).reshape(4, -1)
        logs.append(-(np.einsum("ni,ij,nj->n", rest, np.linalg.inv(total), rest) + np.linalg.slogdet(total)[1]) / 2)
    odds = np.exp(logs[0] - logs[1])
    np.testing.assert_allclose(pair.responsibilities(x_t, alpha)[0], odds / (1 + odds), rtol=1e-9)
    assert GaussianField.fit(drawn, colour=True).spectrum == pytest.approx(band_spectrum(drawn), rel=1e-10)


def test_guidance_of_a_mixture_of_any_size_is_what_drawn_images_show():
    rng, alpha = np.random.default_rng(7), 0.4
    fields = [GaussianField([0.5, 2.0, 4.0], rng.standard_normal((1, 3, 4))) for _ in range(2)]
    pair = GaussianMixture(fields)
    x = fields[0].sample(40_000, rng)
    x_t = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * rng.standard_normal(x.shape)
    shares = pair.responsibilities(x_t, alpha)
    moments = (shares[:, None] * shares[None]).mean(axis=-1)[..., None]
    expected = pair.guidance_energies(0, np.array([alpha]), moments)[:, 0]
    # With one spectrum for all the term is p_1 times a constant, so the moments are all there is to know.
    np.testing.assert_allclose(band_energies(pair.guidance(x_t, alpha, 0)).mean(axis=1), expected, rtol=1e-9)


def test_a_field_must_know_a_size_of_as_many_bands():
    with pytest.raises(ValueError, match=r"6x9 pixels and 3 channels needs .* each of its 4 bands.* got \(3,"):
        GaussianField([1, 2, 3], size=(6, 9))
    with pytest.raises(ValueError, match=r"6x9 pixels .* a mean image of its size; got .*\(3, 9, 6\)"):
        GaussianField([1, 2, 3, 4], np.zeros((3, 9, 6)), size=(6, 9))


def test_schedules_and_timesteps_are_designed_for_any_size():
    schedule = designed_schedule(SIZE, SPECTRUM, WEIGHTS)
    np.testing.assert_allclose(time_per_band(schedule, SIZE, SPECTRUM, WEIGHTS)[:4], 1 / 12, atol=1e-4)
    wanted = Chromatogram.predicted(Schedule.cosine(), SIZE, SPECTRUM, np.linspace(0, 1, 101))
    assert designed_schedule(SIZE, SPECTRUM, wanted=wanted).end == 1
    with pytest.raises(ValueError, match="104x104 pixels is wanted; got one of 104x152"):
        designed_schedule(104, SPECTRUM, wanted=wanted)
    discrete = Schedule.from_alphas(np.linspace(0.999, 0.001, 100))
    predicted = Chromatogram.predicted(discrete, SIZE, SPECTRUM, np.arange(-1.0, 100))
    assert len(designed_timesteps(predicted, discrete, 10)) == 10


@pytest.mark.parametrize("size", [(13, 19), (28, 28), (104, 90)])
def test_the_threshold_keeps_every_cell_in_range(size):
    rng = np.random.default_rng(8)
    x_t, eps, alpha = 3 * rng.standard_normal((2, 1, *size)) + 1, rng.standard_normal((2, 1, *size)), 0.4
    estimate = (x_t - np.sqrt(1 - alpha) * eps) / np.sqrt(alpha)
    smooth = projected(estimate)
    expected = np.clip(smooth[-1], -1, 1)
    for fine, coarse in reversed([*itertools.pairwise(smooth)]):
        expected = np.clip(expected + fine - coarse, -1, 1)
    np.testing.assert_allclose(threshold(x_t, eps, alpha), expected, atol=1e-12)
    plain, printed = (thresholded_noise(x_t, eps, alpha, kind) for kind in ("plain", "as printed"))
    np.testing.assert_array_equal(plain, printed)


def test_a_cascade_needs_blocks_alone():
    noise = np.random.default_rng(9).standard_normal((2, 1, 12, 20))
    own = [2.0**m * downsample(noise, m) for m in range(3)]
    models = [lambda x, alpha, y=y: y for y in (*(residual_target(y) for y in own[:2]), own[2])]
    np.testing.assert_allclose(cascaded_noise(models, noise, 0.5), noise, atol=1e-14)
    with pytest.raises(ValueError, match=r"multiples of 2\^3; got 12x20"):
        cascaded_noise([*models, models[0]], noise, 0.5)


def test_prompts_may_weigh_the_bands_of_any_size():
    first, second = torch.randn(2, 3, 4, 6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = np.array([[0.0, 1.0, 0.3, 1.0], [1.0, 0.0, 0.7, 0.0]])
    parts = zip(weights.T, full_bands(first.numpy()), full_bands(second.numpy()), strict=True)
    np.testing.assert_allclose(
        mixed([first, second], weights), sum(v * a + w * b for (v, w), a, b in parts), atol=1e-13
    )


@pytest.mark.lasting
def test_the_commands_take_a_height_and_a_width(tmp_path, capsys):
    pixels = np.random.default_rng(10).integers(0, 256, (5, 12, 16, 3), np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    drawn = np.concatenate(list(stream(str(tmp_path), (6, 9))))
    middle = Image.fromarray(pixels[1]).resize((9, 6), Image.Resampling.LANCZOS, box=(0, 2 / 3, 16, 34 / 3))
    np.testing.assert_allclose(drawn[1], np.moveaxis(np.asarray(middle), -1, 0) / 127.5 - 1, atol=1.01 / 127.5)
    assert main(["spectrum", str(tmp_path), "--size", "6x9", "--out", str(tmp_path / "s.json")]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["6x9", "3x5", "2x3", "1x2"]
    measured = MeasuredSpectrum.load(tmp_path / "s.json")
    np.testing.assert_allclose(measured.variance, band_spectrum(drawn), rtol=1e-9)
    assert measured.about["pixels"] == "6x9"
    command = ["chromatogram", "--schedule", "cosine", "--size", "6x9", "--spectrum", str(tmp_path / "s.json")]
    for name in ("c.json", "c.csv", "c.png"):
        assert main([*command, "--out", str(tmp_path / name)]) == 0
    expected = Chromatogram.predicted(Schedule.cosine(), (6, 9), measured)
    np.testing.assert_array_equal(Chromatogram.load(tmp_path / "c.json").rates, expected.rates)
    timesteps = ["timesteps", "--schedule", "cosine", "--size", "104x152", "--steps", "5"]
    assert main(timesteps) == 0
    assert len(capsys.readouterr().out.split(",")) == 5
    with pytest.raises(SystemExit):
        main([*timesteps, "--size", "104x152x3"])
    assert "--size: a number of pixels is needed, or HEIGHTxWIDTH; got 104x152x3" in capsys.readouterr().err


def test_photographs_are_cut_to_any_shape():
    assert photos("photographs", 3, (12, 20), generator=np.random.default_rng(0)).shape == (3, 3, 12, 20)
