"""Every mistake gives one clear error: what was expected, and what came."""

import types
from pathlib import Path

import numpy as np
import pytest
import torch
from doors.door import Row, refuse

import reschrom
from reschrom import (
    Chromatogram,
    Schedule,
    band_energies,
    band_names,
    band_sizes,
    band_spectrum,
    bands,
    chromatography,
    depth,
    downsample,
    estimate_at,
    from_bands,
    generated_signal,
    intensity_scale,
    matched_alpha,
    matched_noise,
    matched_time,
    measure_spectrum,
    threshold,
    upsample,
    wiener_gain,
)

NAN, INF = float("nan"), float("inf")
IMAGE = np.zeros((2, 3, 8, 8))
NOISE = np.random.default_rng(0).standard_normal((3, 1, 16, 16))
COSINE = Schedule.cosine()
EDGES = np.array([0.0, 0.5, 1.0])
RATES = np.ones((2, 2))


def scheduler(**attributes: object) -> object:
    return types.SimpleNamespace(**attributes)


def chromatogram(rates: np.ndarray = RATES, edges: np.ndarray = EDGES, size: int = 2) -> Chromatogram:
    return Chromatogram(rates, edges, size, "made up")


MISTAKES = {
    # alpha outside [0, 1], NaN, or no numbers
    "alpha above 1": (lambda: matched_alpha(1.5, 1), ValueError, r"alpha .* in \[0, 1\]; got values from 1\.5 to 1\.5"),
    "alpha below 0": (lambda: intensity_scale(np.array([0.5, -0.1]), 1), ValueError, r"got values from -0\.1 to 0\.5"),
    "alpha NaN": (lambda: matched_noise(NAN, 1), ValueError, r"alpha .* in \[0, 1\]; got values from nan to nan"),
    "alpha NaN, torch": (
        lambda: chromatography(torch.tensor([0.5, NAN]), 2),
        ValueError,
        r"got values from nan to nan",
    ),
    "alpha of gains": (lambda: wiener_gain(2.0, 1.0), ValueError, r"alpha .* in \[0, 1\]; got"),
    "alpha since": (lambda: generated_signal(0.5, 1, since=-1.0), ValueError, r"alpha .* got values from -1 to -1"),
    "alpha complex": (lambda: downsample(IMAGE + 1j), TypeError, r"real numbers is needed; got one of complex128"),
    "alpha in words": (lambda: matched_alpha("half", 1), TypeError, r"real numbers is needed; got str"),
    "alpha of nothing": (lambda: matched_alpha(None, 1), TypeError, r"real numbers is needed; got NoneType"),
    "time of alpha 2": (lambda: COSINE.time(2.0), ValueError, r"alpha .* in \[0, 1\]; got values from 2 to 2"),
    # level out of range
    "level negative": (lambda: matched_alpha(0.5, -1), ValueError, r"level counts halvings .* got -1"),
    "level beyond all numbers": (lambda: matched_alpha(0.5, 600), ValueError, r"at most 500; got 600"),
    "level that is no whole number": (lambda: downsample(IMAGE, 1.0), ValueError, r"level counts halvings .* got 1\.0"),
    "level boolean": (lambda: matched_time(COSINE, 0.5, True), ValueError, r"level counts halvings .* got True"),
    "levels negative": (lambda: chromatography(0.5, -2), ValueError, r"level counts halvings .* got -2"),
    "level too deep": (lambda: downsample(IMAGE, 4), ValueError, r"multiples of 2\^4; got 8x8"),
    "level to a negative side": (lambda: upsample(IMAGE, -1), ValueError, r"level counts halvings .* got -1"),
    "bands too deep": (lambda: bands(IMAGE, 4), ValueError, r"a 8x8 image has levels 0 to 3; got 4"),
    "names too deep": (lambda: band_names(8, 4), ValueError, r"a 8x8 image has levels 0 to 3; got 4"),
    "sizes too deep": (lambda: band_sizes(8, 4), ValueError, r"a 8x8 image has levels 0 to 3; got 4"),
    "estimate too deep": (lambda: estimate_at(IMAGE, IMAGE, 0.5, 4), ValueError, r"multiples of 2\^4; got 8x8"),
    # sides and shapes
    "side 12": (lambda: downsample(np.zeros((3, 12, 8)), 3), ValueError, r"level 3 .* multiples of 2\^3; got 12x8"),
    "side 7, torch": (lambda: downsample(torch.zeros(3, 6, 7)), ValueError, r"level 1 .* multiples of 2\^1; got 6x7"),
    "side 0": (lambda: bands(np.zeros((3, 0, 8))), ValueError, r"one pixel or more; got 0x8"),
    "side 0, up": (lambda: upsample(np.zeros((6, 0))), ValueError, r"one pixel or more; got 6x0"),
    "depth of 0": (lambda: depth(0), ValueError, r"a size is a number of pixels, .* one or more; got 0"),
    "depth of 8.0": (lambda: depth(8.0), ValueError, r"a size is a number of pixels, .*; got 8\.0"),
    "depth of a word": (lambda: depth("8"), ValueError, r"a size is a number of pixels, .*; got '8'"),
    "size -2": (lambda: band_sizes((4, -2)), ValueError, r"a size is .* \(height, width\), .*; got \(4, -2\)"),
    "size of three": (lambda: band_names((4, 4, 4)), ValueError, r"a size is .*; got \(4, 4, 4\)"),
    "chromatogram of 63.5": (lambda: Chromatogram.predicted(COSINE, 63.5), ValueError, r"a size is .*; got 63\.5"),
    "one dimension": (lambda: bands(np.zeros(8)), ValueError, r"shape \(\.\.\., height, width\); got \(8,\)"),
    "energies of one channel": (
        lambda: band_energies(np.zeros((8, 8))),
        ValueError,
        r"channels, height, width\); got \(8, 8\)",
    ),
    "estimate of one channel": (
        lambda: estimate_at(np.zeros((8, 8)), np.zeros((8, 8)), 0.5),
        ValueError,
        r"channels, height, width\); got \(8, 8\)",
    ),
    "bands in the wrong order": (
        lambda: from_bands(bands(IMAGE)[::-1]),
        ValueError,
        r"a 1x1 image has levels 0 to 0; got 3",
    ),
    "bands of other images": (
        lambda: from_bands([np.zeros((3, 2, 2)), np.zeros((1, 1, 1))]),
        ValueError,
        r"band 1 of images of the shape \(3, 2, 2\) has the shape \(3, 1, 1\); got \(1, 1, 1\)",
    ),
    "no bands": (lambda: from_bands([]), ValueError, r"one or more bands; got none"),
    # spectra
    "spectrum of NaN": (lambda: band_spectrum(IMAGE * NAN), ValueError, r"images must be finite; got NaN"),
    "spectrum of two axes": (lambda: chromatography(0.5, 1, RATES), ValueError, r"2 positive variances.* got 2 axes"),
    "spectrum of one image": (lambda: band_spectrum(IMAGE[:1]), ValueError, r"two or more .* got \(1, 3, 8, 8\)"),
    "spectrum of another size": (
        lambda: Chromatogram.predicted(COSINE, (13, 19), measure_spectrum(NOISE)),
        ValueError,
        r"a spectrum of 13x19 pixels is needed; got one of 16x16",
    ),
    "spectrum too short": (lambda: chromatography(0.5, 2, [1.0, 2.0]), ValueError, r"3 positive variances.* got \[1"),
    "spectrum with zero": (lambda: chromatography(0.5, 1, [1.0, 0.0]), ValueError, r"2 positive variances.*0\.0\]"),
    "spectrum with NaN": (lambda: generated_signal(0.5, 1, [1.0, NAN]), ValueError, r"2 positive variances.*nan\]"),
    "gain of nothing": (lambda: wiener_gain(0.5, 0.0), ValueError, r"variance .* must be positive; got 0\.0"),
    # thresholding
    "two shapes": (
        lambda: estimate_at(IMAGE, IMAGE[:1], 0.5),
        ValueError,
        r"one shape; got \(2, 3, 8, 8\) and \(1, 3, 8, 8\)",
    ),
    "noised image with NaN": (lambda: threshold(IMAGE * NAN, IMAGE, 0.5), ValueError, r"x_t and eps must be finite"),
    "prediction that overflowed": (
        lambda: estimate_at(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), INF), 0.5),
        ValueError,
        r"x_t and eps must be finite; got NaN or infinity",
    ),
    "pure noise": (lambda: threshold(IMAGE, IMAGE, 0.0), ValueError, r"pure noise: alpha must be above 0"),
    "too many alphas": (
        lambda: threshold(IMAGE, IMAGE, np.full(3, 0.5)),
        ValueError,
        r"one per image with shape \(2,\); got \(3,\)",
    ),
    "limit of zero": (lambda: threshold(IMAGE, IMAGE, 0.5, 0.0), ValueError, r"limit must be positive; got 0\.0"),
    # schedules
    "time after the end": (
        lambda: COSINE.alpha(1.5),
        ValueError,
        r"cosine schedule runs from 0 to 1; got times from 1\.5",
    ),
    "time before the start": (lambda: COSINE.log_snr(-0.1), ValueError, r"runs from 0 to 1; got times from -0\.1"),
    "time NaN": (lambda: COSINE.snr(np.array([0.1, NAN])), ValueError, r"runs from 0 to 1; got times from nan to nan"),
    "log snr NaN": (lambda: COSINE.time_at(NAN), ValueError, r"log signal-to-noise ratios from -inf up; got .* nan"),
    "natural log snr NaN": (lambda: Schedule.natural().time_at(NAN), ValueError, r"from -inf up; got values from nan"),
    "noisier than its end": (
        lambda: Schedule.linear().time_at(-20.0),
        ValueError,
        r"linear schedule has log signal-to-noise ratios from -10\.05 up; got values from -20 to -20",
    ),
    "noisier than its end, torch": (
        lambda: Schedule.scaled_linear().time(torch.tensor([0.5, 0.0])),
        ValueError,
        r"scaled_linear schedule has log .* got values from -inf to 0",
    ),
    "offset below 0": (lambda: Schedule.cosine(-0.1), ValueError, r"offset s must be finite and 0 or more; got -0\.1"),
    "offset NaN": (lambda: Schedule.cosine(NAN), ValueError, r"0 or more; got nan"),
    "offset without end": (lambda: Schedule.cosine(INF), ValueError, r"must be finite .* got inf"),
    "rates that fall": (lambda: Schedule.linear(2.0, 1.0), ValueError, r"positive and grow; got 2 to 1"),
    "rate of zero": (lambda: Schedule.scaled_linear(0.0, 1.0), ValueError, r"positive and grow; got 0 to 1"),
    "sigmoid backwards": (lambda: Schedule.sigmoid(3.0, -3.0), ValueError, r"start < end .* got 3\.0, -3\.0, 1\.0"),
    "sigmoid frozen": (
        lambda: Schedule.sigmoid(temperature=0.0),
        ValueError,
        r"temperature > 0; got -3\.0, 3\.0, 0\.0",
    ),
    "shift of zero": (lambda: Schedule.flow_matching(0.0), ValueError, r"shift must be finite and positive; got 0\.0"),
    "sigma of zero": (lambda: Schedule.edm(0.0), ValueError, r"largest sigma must be finite and positive; got 0\.0"),
    "shift without end": (lambda: Schedule.flow_matching(INF), ValueError, r"must be finite .* got inf"),
    "rate without end": (lambda: Schedule.linear(0.1, INF), ValueError, r"must be finite.* got 0\.1 to inf"),
    "sigmoid without end": (lambda: Schedule.sigmoid(-INF), ValueError, r"finite start < end .* got -inf, 3\.0, 1\.0"),
    "the class of a scheduler": (lambda: Schedule.from_diffusers(dict), TypeError, r"not its class; got dict"),
    "no scheduler": (lambda: Schedule.from_diffusers("ddpm"), TypeError, r"alphas_cumprod .* got str"),
    "schedule that rises": (
        lambda: Schedule.from_diffusers(scheduler(alphas_cumprod=[0.9, 0.5, 0.6])),
        ValueError,
        r"alphas_cumprod must fall .*; SimpleNamespace does not",
    ),
    "schedule that rests": (
        lambda: Schedule.from_diffusers(scheduler(alphas_cumprod=[0.9, 0.5, 0.5])),
        ValueError,
        r"alphas_cumprod must fall",
    ),
    "schedule above 1": (
        lambda: Schedule.from_diffusers(scheduler(alphas_cumprod=[1.1, 0.5])),
        ValueError,
        r"within \[0, 1\]",
    ),
    "schedule with NaN": (
        lambda: Schedule.from_diffusers(scheduler(alphas_cumprod=[0.9, NAN])),
        ValueError,
        r"alphas_cumprod must fall",
    ),
    "schedule of one step": (
        lambda: Schedule.from_diffusers(scheduler(alphas_cumprod=[0.9])),
        ValueError,
        r"alphas_cumprod must fall",
    ),
    # chromatograms
    "rates of other bands": (
        lambda: chromatogram(size=4),
        ValueError,
        r"size 4 on 2 steps has rates of shape \(3, 2\); got \(2, 2\)",
    ),
    "edges that fall": (
        lambda: chromatogram(edges=EDGES[::-1]),
        ValueError,
        r"must rise, from image to noise; got \[1",
    ),
    "edges without end": (
        lambda: chromatogram(edges=np.array([0, 1, np.inf])),
        ValueError,
        r"must rise, from image to noise; got \[ ?0\. +1\. +inf\]",
    ),
    "no steps": (lambda: Chromatogram.predicted(COSINE, 8, edges=EDGES[:1]), ValueError, r"must rise.* got \[0\.\]"),
    "predicted edges that rest": (
        lambda: Chromatogram.predicted(COSINE, 8, edges=EDGES[[0, 1, 1]]),
        ValueError,
        r"must rise, from image to noise; got \[0",
    ),
    "edges of two axes": (lambda: chromatogram(edges=EDGES[:, None]), ValueError, r"must rise, from image to noise"),
    "signal of other times": (
        lambda: Chromatogram.from_signal(RATES, EDGES, 2, "made up"),
        ValueError,
        r"each of the 3 edges; got the shape \(2, 2\)",
    ),
    "rates below 0": (lambda: chromatogram(RATES * -1), ValueError, r"finite and not negative; got -1\.0"),
    "rates NaN": (lambda: chromatogram(RATES * NAN), ValueError, r"finite and not negative; got nan"),
    "no last time": (lambda: Chromatogram.predicted(Schedule.natural(), 8), ValueError, r"natural .* give the edges"),
    "two grids": (
        lambda: chromatogram().compare(chromatogram(edges=EDGES * 2)),
        ValueError,
        r"same time grid; got 2x2 on 2 steps from 0 to 1 and 2x2 on 2 steps from 0 to 2",
    ),
    "two sides": (
        lambda: chromatogram().compare(chromatogram(np.ones((3, 2)), size=4)),
        ValueError,
        r"same bands .* got 2x2 on .* and 4x4 on",
    ),
    "no folder": (
        lambda: chromatogram().save(Path("nowhere", "c.json")),
        FileNotFoundError,
        r"nowhere/c\.json cannot be written: there is no folder nowhere",
    ),
    "no file": (lambda: Chromatogram.load(Path("nowhere.json")), FileNotFoundError, r"nowhere\.json"),
    # the package
    "no such name": (lambda: reschrom.chromatografy, AttributeError, r"^No reschrom attribute chromatografy$"),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_clear_error(mistake, tmp_path):
    refuse(Row(*MISTAKES[mistake]), tmp_path)
