"""Downsampling, upsampling and the band pyramid: invariants, and the same by torch and PyWavelets."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reschrom import (
    band_energies,
    band_names,
    band_sizes,
    band_spectrum,
    bands,
    depth,
    downsample,
    from_bands,
    upsample,
)

TOLERANCE = {"float16": 4e-3, "float32": 2e-6, "float64": 4e-15}


@st.composite
def images(draw, smallest=1, largest=6, dtypes=("float32", "float64")):
    """Random images of any batch shape and any two sides that are powers of two, NumPy or torch."""
    batch = draw(st.sampled_from([(), (3,), (2, 3), (1, 2, 2), (0, 3)]))
    height, width = (2 ** draw(st.integers(smallest, largest)) for _ in range(2))
    dtype = draw(st.sampled_from(dtypes))
    widest = 2 if dtype == "float16" else 6
    scale = 10.0 ** draw(st.integers(-widest, widest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = (scale * rng.standard_normal((*batch, height, width))).astype(dtype)
    return torch.asarray(x) if draw(st.booleans()) else x


def largest(x) -> float:
    return max((float(abs(x).max()) if np.prod(x.shape) else 0.0), 1e-300)


@pytest.mark.lasting
@settings(deadline=None, max_examples=60)
@given(x=images(smallest=0, largest=4, dtypes=("float16", "float32", "float64")), level=st.integers(0, 3))
def test_downsampling_undoes_upsampling_to_the_last_bit(x, level):
    back = downsample(upsample(x / largest(x), level), level)
    assert back.dtype == x.dtype
    assert type(back) is type(x)
    np.testing.assert_array_equal(np.asarray(back), np.asarray(x / largest(x)))


@pytest.mark.lasting
@settings(deadline=None, max_examples=60)
@given(x=images(), data=st.data())
def test_bands_sum_to_the_image(x, data):
    levels = data.draw(st.integers(0, depth(min(x.shape[-2:]))))
    pyramid = bands(x, levels)
    assert [tuple(b.shape) for b in pyramid] == [
        (*x.shape[:-2], x.shape[-2] >> m, x.shape[-1] >> m) for m in range(levels + 1)
    ]
    back = from_bands(pyramid)
    assert back.dtype == x.dtype
    tolerance = TOLERANCE[str(back.dtype).removeprefix("torch.")]
    np.testing.assert_allclose(np.asarray(back), np.asarray(x), rtol=0, atol=tolerance * largest(x))


@pytest.mark.parametrize("side", [2**m for m in range(1, 10)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bands_reconstruct_every_size_from_2_to_512(side, dtype):
    x = np.random.default_rng(side).standard_normal((1, 2, side, side)).astype(dtype)
    for image in (x, torch.asarray(x)):
        pyramid = bands(image)
        assert len(pyramid) == depth(side) + 1
        error = abs(from_bands(pyramid) - image).max()
        assert float(error) < 4 * TOLERANCE[dtype]


@pytest.mark.lasting
@settings(deadline=None, max_examples=40)
@given(x=images(smallest=1, largest=5, dtypes=("float64",)))
def test_bands_are_orthogonal(x):
    x = np.asarray(x)
    full = [upsample(b, m).reshape(-1, *x.shape[-2:]) for m, b in enumerate(bands(x))]
    energy = (x.reshape(-1, *x.shape[-2:]) ** 2).sum((-2, -1))
    for i, a in enumerate(full):
        for b in full[:i]:
            assert np.all(abs((a * b).sum((-2, -1))) <= 1e-13 * energy)
    np.testing.assert_allclose(sum((b**2).sum((-2, -1)) for b in full), energy, rtol=1e-12)


@pytest.mark.lasting
@settings(deadline=None, max_examples=40)
@given(x=images(smallest=2, largest=5, dtypes=("float64",)))
def test_every_band_but_the_last_averages_to_zero(x):
    *details, last = bands(x)
    for detail in details:
        assert float(abs(downsample(detail)).max() if 0 not in detail.shape else 0) <= 1e-15 * largest(x)
    np.testing.assert_allclose(
        np.asarray(last), np.asarray(downsample(x, len(details))), rtol=0, atol=1e-15 * largest(x)
    )


@pytest.mark.lasting
@settings(deadline=None, max_examples=40)
@given(x=images(smallest=4, largest=6), m=st.integers(0, 2), k=st.integers(0, 2))
def test_levels_compose(x, m, k):
    np.testing.assert_array_equal(np.asarray(downsample(downsample(x, m), k)), np.asarray(downsample(x, m + k)))
    np.testing.assert_array_equal(np.asarray(upsample(upsample(x, m), k)), np.asarray(upsample(x, m + k)))


@pytest.mark.parametrize("level", [0, 1, 2, 5])
def test_the_same_by_torch_pooling_and_interpolation(level):
    x = torch.randn(2, 3, 32, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.avg_pool2d(x, 2**level)
    torch.testing.assert_close(downsample(x, level), pooled, rtol=0, atol=1e-15)
    repeated = torch.nn.functional.interpolate(x, scale_factor=2**level, mode="nearest")
    torch.testing.assert_close(upsample(x, level), repeated, rtol=0, atol=0)


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_the_same_by_the_haar_transform_of_pywavelets(levels):
    x = np.random.default_rng(1).standard_normal((2, 3, 32, 32))
    coefficients = pywt.wavedec2(x, "haar", level=levels)
    for m, band in enumerate(bands(x, levels)):
        # Keep the coefficients of one resolution, set the others to zero.
        kept = [np.zeros_like(coefficients[0])]
        kept += [tuple(np.zeros_like(c) for c in details) for details in coefficients[1:]]
        position = levels - m if m < levels else 0
        kept[position] = coefficients[position]
        np.testing.assert_allclose(upsample(band, m), pywt.waverec2(kept, "haar"), rtol=0, atol=1e-14)


def test_integer_images_become_floating():
    x = np.arange(16).reshape(1, 4, 4)
    assert downsample(x).dtype == np.float64
    assert downsample(torch.asarray(x)).dtype == torch.float32
    np.testing.assert_array_equal(downsample(x, 2), [[[7.5]]])
    np.testing.assert_array_equal(from_bands(bands(x)), x)


@pytest.mark.lasting
def test_gradients_pass_through_the_pyramid():
    x = torch.randn(1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: tuple(bands(image)), x)
    assert torch.autograd.gradcheck(lambda image: from_bands(bands(image)), x)


@settings(deadline=None, max_examples=30)
@given(x=images(smallest=1, largest=5, dtypes=("float64",)), data=st.data())
def test_energies_are_those_of_the_upsampled_bands(x, data):
    if len(x.shape) < 3:
        x = x[None]
    levels = data.draw(st.integers(0, depth(min(x.shape[-2:]))))
    energies = band_energies(x, levels)
    assert tuple(energies.shape) == (levels + 1, *x.shape[:-3])
    for energy, (m, band) in zip(energies, enumerate(bands(x, levels)), strict=True):
        np.testing.assert_allclose(
            np.asarray(energy), (np.asarray(upsample(band, m)) ** 2).sum((-3, -2, -1)), rtol=1e-12
        )
    np.testing.assert_allclose(np.asarray(energies).sum(0), (np.asarray(x) ** 2).sum((-3, -2, -1)), rtol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("levels", [None, 2])
def test_white_noise_has_a_flat_spectrum_of_one(library, levels):
    count, channels, side = 400, 3, 16
    x = np.random.default_rng(2).standard_normal((count, channels, side, side))
    spectrum = np.asarray(band_spectrum(torch.asarray(x) if library == "torch" else x, levels))
    # A variance from n independent numbers has the standard error sqrt(2 / n).
    coefficients = channels * np.array(band_sizes(side, levels))
    assert np.all(abs(spectrum - 1) < 5 * np.sqrt(2 / (coefficients * (count - 1))))


def test_a_scale_free_field_has_the_spectrum_4_to_the_level():
    rng, side, count = np.random.default_rng(3), 16, 3000
    white = bands(rng.standard_normal((count, 1, side, side)))
    x = from_bands([2.0**m * band for m, band in enumerate(white)]) + 7.0  # the mean is taken out
    errors = np.sqrt(2 / (np.array(band_sizes(side)) * (count - 1)))
    assert np.all(abs(band_spectrum(x) / 4.0 ** np.arange(5) - 1) < 5 * errors)


def test_band_sizes_and_names():
    assert band_sizes(8) == [48, 12, 3, 1]
    assert band_sizes(8, 1) == [48, 16]
    assert sum(band_sizes(64)) == 64**2
    assert band_names(8) == ["8x8", "4x4", "2x2", "1x1"]
    assert band_names(8, 1) == ["8x8", "4x4"]
    assert band_names(1) == ["1x1"]
    assert [depth(side) for side in (1, 2, 64, 512)] == [0, 1, 6, 9]
