"""Every mistake gives one clear error: what was expected, and what came."""

import dataclasses
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from doors.door import Row, refuse

import reschrom
from reschrom import (
    AttenuatedProcess,
    Chromatogram,
    Denoiser,
    DVDPScheduler,
    FiniteDataset,
    GaussianField,
    GaussianMixture,
    GuidanceInterval,
    GuidanceSchedule,
    Information,
    MeasuredSpectrum,
    NearestImage,
    PromptSchedule,
    ScaleMixture,
    Schedule,
    WindowMixture,
    attenuation_within,
    band_changes,
    band_energies,
    band_losses,
    band_names,
    band_sizes,
    band_spectrum,
    bands,
    by_band,
    chromatography,
    ddim,
    decided_share,
    depth,
    designed_schedule,
    designed_timesteps,
    downsample,
    error_bound,
    estimate_at,
    from_bands,
    gaussian_errors,
    generated_signal,
    guidance_from_sampling,
    guidance_interval,
    half_decided,
    heaviside,
    intensity_scale,
    matched_alpha,
    matched_noise,
    matched_time,
    measure_spectrum,
    predicted_share,
    predicted_times,
    rates_from_losses,
    rates_from_sampling,
    spectral_turning_points,
    survival,
    switch_time,
    threshold,
    turning_points_within,
    upsample,
    wiener_gain,
)
from reschrom.design.schedules import discretised
from reschrom.theory.intervals import interval_around
from reschrom.theory.rates import never_rising

NAN, INF = float("nan"), float("inf")
IMAGE = np.zeros((2, 3, 8, 8))
NOISE = np.random.default_rng(0).standard_normal((3, 1, 16, 16))
COSINE = Schedule.cosine()
EDGES = np.array([0.0, 0.5, 1.0])
RATES = np.ones((2, 2))
TOLD = Information(RATES, EDGES, 2)


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
    "changes of NaN": (lambda: band_changes(NOISE, NOISE * NAN), ValueError, r"images must be finite; got NaN"),
    "changes of one image": (
        lambda: band_changes(NOISE[:1], NOISE[:1]),
        ValueError,
        r"two or more images of one shape .*; got \(1, 1, 16, 16\) and \(1, 1, 16, 16\)",
    ),
    "changes of other images": (
        lambda: band_changes(NOISE, NOISE[:2]),
        ValueError,
        r"one shape .* and \(2, 1, 16, 16\)",
    ),
    "changes of images without channels": (
        lambda: band_changes(NOISE[:, 0], NOISE[:, 0]),
        ValueError,
        r"images of one channel are images\[:, None\]",
    ),
    "changes of images that are all alike": (
        lambda: band_changes(NOISE, np.zeros_like(NOISE)),
        ValueError,
        r"all alike in the band 16x16",
    ),
    "changes of images as files": (
        lambda: band_changes(np.moveaxis(NOISE, 1, -1), np.moveaxis(NOISE, 1, -1)),
        ValueError,
        r"channels last",
    ),
    "changes of the largest numbers": (
        lambda: band_changes(NOISE, NOISE * 1e200),
        ValueError,
        r"the squares of images must be finite",
    ),
    "changes of words": (lambda: band_changes(NOISE, np.full((2, 1, 2, 2), "a")), TypeError, r"got one of <U1"),
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

FIELD = GaussianField([1.0, 4.0, 16.0, 64.0], channels=1)
PICTURES = FIELD.sample(4, np.random.default_rng(0))
START = np.random.default_rng(0).standard_normal(PICTURES.shape)
TIMES = np.linspace(0, 1, 4)
TABLE = Schedule.from_alphas(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
PROCESS = AttenuatedProcess(COSINE, (0.3, 0.6))
FLOW = Schedule.flow_matching()


def flow(**config: object) -> object:
    return scheduler(config={"use_flow_sigmas": True, **config})


def continuous(**config: object) -> object:
    return scheduler(config={"timestep_type": "continuous", **config})


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def without(band: str) -> np.ndarray:
    """Return images that hold nothing in one band."""
    pyramid = zip(band_names(8), bands(PICTURES), strict=True)
    return from_bands([each * (name != band) for name, each in pyramid])


def replicated(count: int) -> Chromatogram:
    return Chromatogram(RATES, EDGES, 2, "made up", np.ones((count, 2, 2)))


def network(returned: Callable[[np.ndarray], object], **settings: object) -> Callable[[], object]:
    """Return the call of a network of one's own that returns something."""
    denoiser = Denoiser(lambda x, t: returned(x), "x0", FLOW, **settings)
    return lambda: denoiser(PICTURES, 0.5)


def losses(denoise: Callable[..., object]) -> Callable[[], object]:
    return lambda: band_losses(denoise, PICTURES, COSINE, np.array([0.5]), rng())


def sampled(start: object, substeps: object = 1, edges: object = TIMES) -> Callable[[], object]:
    return lambda: rates_from_sampling(FIELD.denoise, start, COSINE, edges, substeps, "a field")


def designed(**changed: object) -> Callable[[], object]:
    given = {"chromatogram": Chromatogram.predicted(TABLE, 8), "schedule": TABLE, "steps": 5, **changed}
    return lambda: designed_timesteps(**given)


MISTAKES |= {
    # what an array of a narrow dtype cannot hold
    "scale beyond half precision": (
        lambda: intensity_scale(np.zeros(1, np.float16), 20),
        ValueError,
        r"too large for float16",
    ),
    "scale beyond single precision, torch": (
        lambda: intensity_scale(torch.zeros(1), 130),
        ValueError,
        r"too large for torch\.float32",
    ),
    "signal beyond half precision": (
        lambda: generated_signal(np.ones(1, np.float16), 1, [1e6, 1e6]),
        ValueError,
        r"too large for float16",
    ),
    "bands beyond half precision": (
        lambda: band_spectrum(np.array([-6e4, 6e4], np.float16).reshape(2, 1, 1, 1)),
        ValueError,
        r"too large for float16",
    ),
    "squares beyond double precision": (
        lambda: band_spectrum(NOISE * 1e200),
        ValueError,
        r"the squares of images must be finite",
    ),
    "measured squares beyond double precision": (
        lambda: measure_spectrum(NOISE * 1e200),
        ValueError,
        r"images whose squares are finite",
    ),
    "variance near the end of all numbers": (
        lambda: chromatography(0.5, 1, [1.0, 1e308]),
        ValueError,
        r"between 1e-100 and 1e\+100, .*got \[1\.0, 1e\+308\]",
    ),
    "variance near nothing": (lambda: generated_signal(0.5, 1, [1e-320, 1.0]), ValueError, r"between 1e-100 and 1e"),
    "gain of words": (lambda: wiener_gain(0.5, "1"), TypeError, r"variance of a coefficient must be a number; got '1'"),
    "gain without end": (
        lambda: wiener_gain(0.5, INF),
        ValueError,
        r"variance of a coefficient must be finite; got inf",
    ),
    "gain of a truth": (lambda: wiener_gain(0.5, True), TypeError, r"must be a number; got True"),
    "rates of more halvings than numbers": (lambda: chromatography(0.5, 300), ValueError, r"at most 250 .* got 300"),
    "noise of a level in words": (lambda: matched_noise(0.5, "1"), ValueError, r"level counts halvings .* got '1'"),
    "time of a level of NaN": (lambda: matched_time(COSINE, 0.5, NAN), ValueError, r"level counts halvings .* got nan"),
    # no real numbers
    "upsampled objects": (
        lambda: upsample(np.array([[None]])),
        TypeError,
        r"real numbers is needed; got one of object",
    ),
    "upsampled complex": (lambda: upsample(IMAGE + 1j), TypeError, r"got one of complex128"),
    "upsampled complex, torch": (
        lambda: upsample(torch.zeros(2, 2, dtype=torch.complex64)),
        TypeError,
        r"got one of torch\.complex64",
    ),
    "upsampled dates": (lambda: upsample(np.zeros((2, 2), "M8[s]")), TypeError, r"got one of datetime64\[s\]"),
    "upsampled spans of time": (lambda: upsample(np.zeros((2, 2), "m8[s]")), TypeError, r"got one of timedelta64\[s\]"),
    "upsampled words": (lambda: upsample(np.array([["a"]])), TypeError, r"got one of <U1"),
    "upsampled nothing": (lambda: upsample(None), TypeError, r"got NoneType"),
    "bands of objects": (lambda: from_bands([np.array([[None]])]), TypeError, r"got one of object"),
    "bands of words": (lambda: from_bands(["a"]), TypeError, r"got str"),
    "bands of two libraries": (lambda: from_bands([np.zeros((2, 2)), torch.zeros(1, 1)]), TypeError, r"namespace"),
    "energies of words": (lambda: band_energies("a"), TypeError, r"got str"),
    "spectrum of words": (lambda: band_spectrum(np.full((2, 1, 2, 2), "a")), TypeError, r"got one of <U1"),
    "spectrum of nothing": (lambda: band_spectrum(None), TypeError, r"got NoneType"),
    "size of a truth": (lambda: depth(True), ValueError, r"a size is .*; got True"),
    "sizes of truths": (lambda: band_sizes((True, 4)), ValueError, r"a size is .*; got \(True, 4\)"),
    # images of one channel
    "spectrum of three axes": (
        lambda: band_spectrum(NOISE[:, 0]),
        ValueError,
        r"got \(3, 16, 16\); images of one channel are images\[:, None\]",
    ),
    "spectrum without channels": (lambda: band_spectrum(NOISE[:, :0]), ValueError, r"got \(3, 0, 16, 16\)"),
    "measured three axes": (lambda: measure_spectrum(NOISE[:, 0]), ValueError, r"one channel are images\[:, None\]"),
    "measured batches of three axes": (
        lambda: measure_spectrum([NOISE[0], NOISE[1]]),
        ValueError,
        r"got \(1, 16, 16\); images of one channel are",
    ),
    "measured without channels": (lambda: measure_spectrum(NOISE[:, :0]), ValueError, r"got \(3, 0, 16, 16\)"),
    "field of three axes": (
        lambda: GaussianField.fit(PICTURES[:, 0]),
        ValueError,
        r"one channel are images\[:, None\]",
    ),
    "mixture of three axes": (
        lambda: GaussianMixture.fit(PICTURES[:, 0], 2, rng()),
        ValueError,
        r"one channel are images\[:, None\]",
    ),
    "windows of three axes": (
        lambda: WindowMixture(PICTURES[:, 0], rng()),
        ValueError,
        r"channel are images\[:, None\]",
    ),
    "nearest of three axes": (
        lambda: NearestImage(PICTURES[:, 0], rng()),
        ValueError,
        r"channel are images\[:, None\]",
    ),
    "scales of three axes": (lambda: ScaleMixture(PICTURES[:, 0]), ValueError, r"channel are images\[:, None\]"),
    "data set of three axes": (lambda: FiniteDataset(PICTURES[:, 0]), ValueError, r"channel are images\[:, None\]"),
    "noised of three axes": (
        lambda: FIELD.denoise(PICTURES[:, 0], 0.5),
        ValueError,
        r"\(N, 1, 8, 8\) are needed; got \(4, 8, 8\); images of one channel are",
    ),
    "losses of three axes": (
        lambda: band_losses(FIELD.denoise, PICTURES[:, 0], COSINE, TIMES, rng()),
        ValueError,
        r"got \(4, 8, 8\); images of one channel are",
    ),
    "sampling from three axes": (sampled(PICTURES[:, 0]), ValueError, r"got \(4, 8, 8\); images of one channel are"),
    "generation from three axes": (
        lambda: next(ddim(FIELD.denoise, PICTURES[:, 0], TIMES)),
        ValueError,
        r"got \(4, 8, 8\); images of one channel are",
    ),
    "survival in three axes": (
        lambda: survival(PICTURES[:, 0], PICTURES[:, 0]),
        ValueError,
        r"\(4, 8, 8\); images of one channel are",
    ),
    "decided in three axes": (
        lambda: decided_share(*[PICTURES[:, 0]] * 3),
        ValueError,
        r"\(4, 8, 8\); images of one channel are",
    ),
    # measured spectra
    "no images, measured": (lambda: measure_spectrum(iter([])), ValueError, r"two or more images; got none"),
    "empty batches, measured": (lambda: measure_spectrum([NOISE[:0]]), ValueError, r"two or more images; got none"),
    "first image below 0": (
        lambda: measure_spectrum(NOISE, first_image=-1),
        ValueError,
        r"number of the first image must be 0 or more; got -1",
    ),
    "first image a truth": (lambda: measure_spectrum(NOISE, first_image=True), TypeError, r"whole number; got True"),
    "interval upside down": (
        lambda: MeasuredSpectrum(np.ones(2), np.full(2, 2.0), np.full(2, 3.0), 2, 2),
        ValueError,
        r"each lies in its interval",
    ),
    "variance NaN": (lambda: MeasuredSpectrum(*[np.full(2, NAN)] * 3, 2, 2), ValueError, r"variances .* are finite"),
    "variance below 0": (lambda: MeasuredSpectrum(*[np.full(2, -1.0)] * 3, 2, 2), ValueError, r"none negative"),
    "variances of another size": (
        lambda: MeasuredSpectrum(*[np.ones(3)] * 3, 2, 2),
        ValueError,
        r"2x2 pixels has 2 variances, .* got \[\(3,\), \(3,\), \(3,\)\]",
    ),
    "half an image": (lambda: MeasuredSpectrum(*[np.ones(2)] * 3, 1.5, 2), TypeError, r"number of images .* got 1\.5"),
    "no image in a spectrum": (lambda: MeasuredSpectrum(*[np.ones(2)] * 3, 0, 2), ValueError, r"1 or more; got 0"),
    # chromatograms
    "no replicates": (lambda: replicated(0), ValueError, r"two or more replicates, or None; got 0"),
    "one replicate": (lambda: replicated(1), ValueError, r"two or more replicates, or None; got 1"),
    "interval of no replicates": (
        lambda: interval_around(np.ones(2), np.ones((0, 2))),
        ValueError,
        r"two or more replicates; got 0",
    ),
    "interval of no images": (
        lambda: interval_around(np.ones(2), np.ones((2, 2)), images=0),
        ValueError,
        r"number of images must be 1 or more; got 0",
    ),
    "rates of half an image": (
        lambda: Chromatogram(RATES, EDGES, 2, "made up", images=1.5),
        TypeError,
        r"number of images must be a whole number; got 1\.5",
    ),
    "rates of no images": (
        lambda: Chromatogram.from_signal(np.zeros((2, 3)), EDGES, 2, "made up", images=0),
        ValueError,
        r"number of images must be 1 or more; got 0",
    ),
    "name of a number": (lambda: Chromatogram(RATES, EDGES, 2, 3), TypeError, r"name of a chromatogram is text; got 3"),
    "rates in words": (lambda: chromatogram(np.full((2, 2), "a")), TypeError, r"got one of <U1"),
    "rates complex": (lambda: chromatogram(RATES * 1j), TypeError, r"got one of complex128"),
    "edges in words": (lambda: chromatogram(edges=["a", "b"]), TypeError, r"got one of <U1"),
    "two grids with the same ends": (
        lambda: chromatogram().compare(chromatogram(edges=EDGES**2)),
        ValueError,
        r"same time grid; got the edge number 1 at 0\.5 and 0\.25",
    ),
    "compared with numbers": (lambda: chromatogram().compare(RATES), TypeError, r"compared with another; got ndarray"),
    "a spectrum that no edges fall on": (
        lambda: never_rising(RATES, np.array([1.0, 0.0])),
        ValueError,
        r"precision, which is positive; .* alpha = 0, pure noise",
    ),
    "prompts of no bands": (lambda: by_band([]), ValueError, r"prompt of every band is needed, .*; got none"),
    "prompts below 0": (lambda: by_band([-1]), ValueError, r"prompt of a band must be 0 or more; got -1"),
    "prompts in parts": (lambda: by_band([0.5]), TypeError, r"prompt of a band must be a whole number; got 0\.5"),
    "prompts of truths": (lambda: by_band([True]), TypeError, r"prompt of a band must be a whole number; got True"),
    "a switch in words": (lambda: heaviside("half"), TypeError, r"switch must be a number; got 'half'"),
    "a switch NaN": (lambda: heaviside(NAN), ValueError, r"switch .* lies in \[0, 1\]; got nan"),
    **{
        f"a prompt written {written!r}": (
            lambda written=written: PromptSchedule.parse(tiny.stable_diffusion(), written),
            ValueError,
            words,
        )
        for written, words in {
            "a [red": r"\[ does not close, at letter 3 of 'a \[red'; \\\( and \\\[ are brackets themselves",
            "a red]": r"\] closes nothing, at letter 6",
            "a [red:blue:2)": r"\[ does not close, at letter 3",
            "a red)": r"\) closes nothing",
            "(red:1.2)": r"\( begins a weight, and what a weight does .* differs",
            "a [red]": r"\[word\] without : or \| is a weight",
            "[a:b]": r"ends in steps, a fraction .* or a resolution like 16x16, not 'b'",
            "[a:b:1.0]": r"not '1\.0'",
            "[a:b:1.5]": r"not '1\.5'",
            "[a:b:-1]": r"not '-1'",
            "[a:b:]": r"not ''",
            "[a:b:c:2]": r"one or two texts; write \\: for a colon",
            "[a|b:2]": r"\[ mixes : and \|",
            "a cat AND a dog": r"AND is of another syntax",
            "a cat BREAK a dog": r"BREAK is of another syntax",
            "a cat <lora:fur:1>": r"<lora:fur:1> is of another syntax",
            "[a:b:16x16]": r"must be one of 4x4, 2x2, 1x1; got 16x16",
            "[a:b:8x8]": r"finest band that keeps the first prompt must be one of 4x4, 2x2, 1x1; got 8x8",
            "[a|b|c|d|e|f|g][a|b|c|d|e][a|b|c][a|b|c|d]": r"between 256 texts at most",
        }.items()
    },
    "a prompt that is no text": (
        lambda: PromptSchedule.parse(tiny.stable_diffusion(), ["a"]),
        TypeError,
        r"a prompt that changes is one text; got list",
    ),
    "a prompt by a chromatogram in other times": (
        lambda: PromptSchedule.parse(tiny.stable_diffusion(), "[a:b:2x2]", chromatogram()),
        ValueError,
        r"in the units of the schedule .* from -1 to 999; got one from 0 to 1",
    ),
    "estimate of words": (lambda: estimate_at("x", IMAGE, 0.5), TypeError, r"got str"),
    "threshold of complex": (lambda: threshold(IMAGE + 1j, IMAGE, 0.5), TypeError, r"got one of complex128"),
    "an error of the noise above 1": (
        lambda: dataclasses.replace(chromatogram(), noise_error=1.5),
        ValueError,
        r"noise_error must lie in \[0, 1\]; got 1\.5",
    ),
    # shares
    "kept twice": (lambda: switch_time(chromatogram(), 2, kept=2), ValueError, r"kept must lie in \[0, 1\]; got 2"),
    "kept NaN": (lambda: switch_time(chromatogram(), 2, kept=NAN), ValueError, r"kept must lie in \[0, 1\]; got nan"),
    "kept in words": (
        lambda: switch_time(chromatogram(), 2, kept="all"),
        TypeError,
        r"kept must be a number; got 'all'",
    ),
    "band beyond all": (lambda: switch_time(chromatogram(), 1), ValueError, r"band must be one of 2x2; got 1x1"),
    "survival of images that are one in a coarse band": (
        lambda: survival(without("4x4"), PICTURES),
        ValueError,
        r"originals must differ in every band: .* as it is in 4x4",
    ),
    "seed below 0": (lambda: survival(PICTURES, PICTURES, -1), ValueError, r"seed of the bootstrap must be 0 or more"),
    "seed in parts": (lambda: survival(PICTURES, PICTURES, 0.5), TypeError, r"must be a whole number; got 0\.5"),
    "seed in words": (lambda: survival(PICTURES, PICTURES, "a"), TypeError, r"must be a whole number; got 'a'"),
    "seed a truth": (lambda: survival(PICTURES, PICTURES, True), TypeError, r"must be a whole number; got True"),
    "survival of NaN": (lambda: survival(PICTURES, PICTURES * NAN), ValueError, r"before and after must be finite"),
    "survival of words": (lambda: survival("a", PICTURES), TypeError, r"got str"),
    "decided of two shapes": (
        lambda: decided_share(PICTURES, PICTURES, PICTURES[:1]),
        ValueError,
        r"of one shape .* got \(4, 1, 8, 8\), \(4, 1, 8, 8\) and \(1, 1, 8, 8\)",
    ),
    "decided of images that are one in a coarse band": (
        lambda: decided_share(PICTURES, PICTURES, PICTURES + without("2x2")),
        ValueError,
        r"must differ in every band; they are the same in 2x2",
    ),
    "switch beyond the end": (
        lambda: predicted_share(chromatogram(), np.array([1.5]), 1.0),
        ValueError,
        r"switch .* lies in \[0, 1\]; got 1\.5",
    ),
    "switches in two axes": (
        lambda: predicted_share(chromatogram(), np.zeros((1, 1)), 1.0),
        ValueError,
        r"switches have one axis; got the shape \(1, 1\)",
    ),
    "end of time NaN": (
        lambda: predicted_share(chromatogram(), np.array([0.5]), NAN),
        ValueError,
        r"the last time must be finite; got nan",
    ),
    "switches that fall": (
        lambda: half_decided(np.array([1.0, 0.0]), RATES),
        ValueError,
        r"switches must rise, with a share of every band at each",
    ),
    # denoisers
    "alphas that rest": (
        lambda: next(ddim(FIELD.denoise, PICTURES, [0.2, 0.5, 0.5])),
        ValueError,
        r"alphas must rise; got array\(\[0\.2, 0\.5, 0\.5\]\)",
    ),
    "alphas of none": (lambda: next(ddim(FIELD.denoise, PICTURES, [])), ValueError, r"alphas must rise"),
    "alphas of one number": (lambda: next(ddim(FIELD.denoise, PICTURES, 0.5)), ValueError, r"alphas must rise"),
    "alphas of two axes": (lambda: next(ddim(FIELD.denoise, PICTURES, RATES)), ValueError, r"alphas must rise"),
    "generation from NaN": (lambda: next(ddim(FIELD.denoise, PICTURES * NAN, [0.5])), ValueError, r"must be finite"),
    "generation from words": (lambda: next(ddim(FIELD.denoise, "noise", [0.5])), TypeError, r"got str"),
    "no noise to sample from": (sampled(iter([])), ValueError, r"starts from one or more images of noise; got none"),
    "empty noise": (sampled(PICTURES[:0]), ValueError, r"batches of one or more, .* got \(0, 1, 8, 8\)"),
    "noise NaN": (sampled(PICTURES * NAN), ValueError, r"images must be finite"),
    "noise of two sizes": (sampled([START, START[..., :4]]), ValueError, r"must have one shape"),
    "no substeps": (sampled(PICTURES, 0), ValueError, r"one or more steps of DDIM; got 0"),
    "substeps in parts": (sampled(PICTURES, 1.5), TypeError, r"steps of DDIM must be a whole number; got 1\.5"),
    "substeps a truth": (sampled(PICTURES, True), TypeError, r"must be a whole number; got True"),
    "sampled edges that fall": (sampled(PICTURES, 1, TIMES[::-1]), ValueError, r"must rise, from image to noise"),
    "sampled edges NaN": (sampled(PICTURES, 1, TIMES * NAN), ValueError, r"must rise, from image to noise"),
    "losses at no times": (
        lambda: band_losses(FIELD.denoise, PICTURES, COSINE, np.zeros(0), rng()),
        ValueError,
        r"one or more times, shape \(times,\); got \(0,\)",
    ),
    "losses at one time": (
        lambda: band_losses(FIELD.denoise, PICTURES, COSINE, 0.5, rng()),
        ValueError,
        r"one or more times, .* got \(\)",
    ),
    "losses of a seed": (
        lambda: band_losses(FIELD.denoise, PICTURES, COSINE, TIMES, 0),
        TypeError,
        r"np\.random\.default_rng\(seed\); got 0",
    ),
    "losses with no noises": (
        lambda: band_losses(FIELD.denoise, PICTURES, COSINE, TIMES, rng(), 0),
        ValueError,
        r"the number of noises must be 1 or more; got 0",
    ),
    "rates with half a noise": (
        lambda: rates_from_losses(FIELD.denoise, PICTURES, COSINE, EDGES, rng(), "a field", 0.5),
        TypeError,
        r"the number of noises must be a whole number; got 0\.5",
    ),
    "losses on NaN": (
        lambda: band_losses(FIELD.denoise, PICTURES * NAN, COSINE, TIMES, rng()),
        ValueError,
        r"images must be finite",
    ),
    "rates on edges that rest": (
        lambda: rates_from_losses(FIELD.denoise, PICTURES, COSINE, np.array([0.5, 0.5]), rng(), "a field"),
        ValueError,
        r"must rise, from image to noise",
    ),
    "a denoiser of t": (losses(lambda x, t: x), TypeError, r"takes 't'\. Wrap a network"),
    "a denoiser of sigma": (losses(lambda x, sigma: x), TypeError, r"takes 'sigma'\. Wrap a network"),
    "a denoiser of images alone": (losses(lambda x: x), TypeError, r"this one failed: .* Wrap a network"),
    "a denoiser of nothing": (losses(lambda: IMAGE), TypeError, r"this one failed: .* Wrap a network"),
    "a denoiser that is a word": (losses("field"), TypeError, r"this one failed: 'str' object is not callable"),
    "estimate of nothing": (losses(lambda x, a: None), TypeError, r"this one returned NoneType"),
    "estimate in a tuple": (losses(lambda x, a: (x,)), TypeError, r"this one returned tuple"),
    "estimate in a list": (losses(lambda x, a: list(x)), TypeError, r"this one returned list"),
    "estimate in a dict": (losses(lambda x, a: {"sample": x}), TypeError, r"this one returned dict"),
    "estimate as a tensor": (losses(lambda x, a: torch.tensor(x)), TypeError, r"this one returned Tensor"),
    "estimate in an output": (
        losses(lambda x, a: scheduler(sample=x)),
        TypeError,
        r"this one returned SimpleNamespace",
    ),
    "estimate complex": (losses(lambda x, a: x + 0j), TypeError, r"this one returned an array of complex128"),
    "estimate of objects": (losses(lambda x, a: x.astype(object)), TypeError, r"returned an array of object"),
    "estimate of another shape": (losses(lambda x, a: x[:1]), ValueError, r"got the shape \(1, 1, 8, 8\), at alpha"),
    "estimate NaN": (losses(lambda x, a: x * NAN), ValueError, r"must return finite images"),
    "a field of words": (lambda: GaussianField(["a"]), TypeError, r"got one of <U1"),
    "a field of half a channel": (lambda: GaussianField([1, 4], channels=1.5), TypeError, r"whole number; got 1\.5"),
    "a field of no channel": (lambda: GaussianField([1, 4], channels=0), ValueError, r"must be 1 or more; got 0"),
    "images below 0": (lambda: FIELD.sample(-1, rng()), ValueError, r"number of images must be 0 or more; got -1"),
    "half an image drawn": (lambda: FIELD.sample(1.5, rng()), TypeError, r"number of images .* got 1\.5"),
    "images of a seed": (lambda: FIELD.sample(1, 0), TypeError, r"np\.random\.default_rng\(seed\); got 0"),
    "data of a seed": (lambda: FiniteDataset(PICTURES).sample(1, None), TypeError, r"default_rng\(seed\); got None"),
    "mixture of a truth": (lambda: GaussianMixture.fit(PICTURES, True, rng()), TypeError, r"classes .* got True"),
    "mixture of a seed": (lambda: GaussianMixture.fit(PICTURES, 2, 0), TypeError, r"default_rng\(seed\); got 0"),
    "class of a truth": (
        lambda: GaussianMixture([FIELD, FIELD]).guidance(PICTURES, 0.5, True),
        ValueError,
        r"the classes 0 to 1; got True",
    ),
    "windows of a seed": (lambda: WindowMixture(PICTURES, 0), TypeError, r"default_rng\(seed\); got 0"),
    "windows in parts": (lambda: WindowMixture(PICTURES, rng(), 1.5), TypeError, r"components and windows .* got 1\.5"),
    "times on a clock without end": (
        lambda: predicted_times(PICTURES, PICTURES, Schedule.natural(), rng()),
        ValueError,
        r"a schedule with a last time; natural has none",
    ),
    "times of one new picture": (
        lambda: predicted_times(PICTURES, PICTURES[:1], COSINE, rng()),
        ValueError,
        r"2 or more square images.*; got",
    ),
    "times of other pictures": (
        lambda: predicted_times(PICTURES, PICTURES[..., :4, :4], COSINE, rng()),
        ValueError,
        r"known and new pictures have one shape; got \(.*\) and \(.*, 4, 4\)",
    ),
    "times of a loss of 0": (
        lambda: predicted_times(PICTURES, PICTURES, COSINE, rng(), loss=0),
        ValueError,
        r"the loss of a network is a positive number; got 0",
    ),
    "times of a seed": (
        lambda: predicted_times(PICTURES, PICTURES, COSINE, 0),
        TypeError,
        r"default_rng\(seed\); got 0",
    ),
    "nearest of a seed": (lambda: NearestImage(PICTURES, 0), TypeError, r"default_rng\(seed\); got 0"),
    "empty data set": (lambda: FiniteDataset(PICTURES[:, :0]), ValueError, r"one or more finite images"),
    # networks of one's own
    "network returns a tuple": (network(lambda x: (x, x)), TypeError, r"its prediction alone; got tuple"),
    "network returns a list": (network(lambda x: [x, x]), TypeError, r"its prediction alone; got list"),
    "network returns a dict": (network(lambda x: {"sample": x}), TypeError, r"its prediction alone; got dict"),
    "network returns nothing": (network(lambda x: None), TypeError, r"its prediction alone; got NoneType"),
    "network returns an odd output": (network(lambda x: scheduler(eps=x)), TypeError, r"got SimpleNamespace"),
    "network returns complex": (network(lambda x: x + 0j), TypeError, r"got an array of complex128"),
    "network returns complex tensors": (network(lambda x: torch.tensor(x) + 0j), TypeError, r"an array of complex128"),
    "network returns whole numbers": (network(lambda x: x.astype(int)), TypeError, r"got an array of int64"),
    "network returns another shape": (network(lambda x: x[..., :1]), ValueError, r"got \(1, 1, 8, 1\)"),
    "network returns NaN": (network(lambda x: x * NAN), ValueError, r"finite numbers; got NaN or infinity at its time"),
    "network of images alone": (
        lambda: Denoiser(lambda x: x, "x0", FLOW)(PICTURES, 0.5),
        TypeError,
        r"fn failed for one image, called with the shapes",
    ),
    "network given a word": (lambda: Denoiser(lambda x, t: x, "x0", FLOW)("x", 0.5), TypeError, r"got str"),
    "network given one channel": (
        lambda: Denoiser(lambda x, t: x, "x0", FLOW)(PICTURES[:, 0], 0.5),
        ValueError,
        r"one channel are images\[:, None\]",
    ),
    "network of half a batch": (
        lambda: Denoiser(lambda x, t: x, "x0", FLOW, batch=1.5),
        TypeError,
        r"images of a batch must be a whole number; got 1\.5",
    ),
    "network of a truth of channels": (
        lambda: Denoiser(lambda x, t: x, "x0", FLOW, channels=True),
        TypeError,
        r"number of channels must be a whole number; got True",
    ),
    "range of words": (
        lambda: Denoiser(lambda x, t: x, "x0", FLOW, value_range=("a", "b")),
        TypeError,
        r"an end of value_range must be a number; got 'a'",
    ),
    "prediction of a list": (
        lambda: Denoiser(lambda x, t: x, ["x0"], FLOW),
        ValueError,
        r"a network predicts .* \['x0'\]",
    ),
    "guidance of two functions": (
        lambda: guidance_from_sampling(FIELD.denoise, FIELD.denoise, PICTURES, COSINE, TIMES, 1, "a field"),
        TypeError,
        r"each a Denoiser; got",
    ),
    # designs
    "steps in parts": (designed(steps=1.5), TypeError, r"number of steps must be a whole number; got 1\.5"),
    "steps a truth": (designed(steps=True), TypeError, r"must be a whole number; got True"),
    "steps in words": (designed(steps="5"), TypeError, r"must be a whole number; got '5'"),
    "no steps at all": (designed(steps=0), ValueError, r"got 0 steps"),
    "more steps than timesteps": (designed(steps=1001), ValueError, r"there are 1000 timesteps .* got 1001 steps"),
    "weights NaN": (designed(weights=[1, 1, 1, NAN]), ValueError, r"4 weights are needed"),
    "weights below 0": (designed(weights=[1, 1, 1, -1]), ValueError, r"none negative"),
    "weights all 0": (designed(weights=[0, 0, 0, 0]), ValueError, r"not all 0"),
    "weights of other bands": (designed(weights=[1, 1]), ValueError, r"4 weights are needed"),
    "weights in words": (designed(weights=["1"] * 4), TypeError, r"got one of <U1"),
    "equal in nothing": (designed(equal="time"), ValueError, r"equal in error, variance, signal; got 'time'"),
    "chromatogram of times from 0 to 1": (
        designed(chromatogram=Chromatogram.predicted(COSINE, 8)),
        ValueError,
        r"units of the schedule is needed, whose times run from -1 to 999; got one from 0 to 1",
    ),
    "chromatogram of timesteps for times": (
        designed(schedule=COSINE),
        ValueError,
        r"whose times run from 0 to 1; got one from -1 to 999",
    ),
    "chromatogram of sigmas": (
        designed(chromatogram=Chromatogram.predicted(Schedule.edm(), 8)),
        ValueError,
        r"from -1 to 999; got one from 0 to 80",
    ),
    "scheduler of one timestep": (lambda: discretised(COSINE, 1), ValueError, r"timesteps must be 2 or more; got 1"),
    "scheduler of half a timestep": (
        lambda: discretised(COSINE, 2.5),
        TypeError,
        r"timesteps .* whole number; got 2\.5",
    ),
    "errors of steps that rise": (
        lambda: gaussian_errors([0, 500], TABLE, [1.0]),
        ValueError,
        r"timesteps must fall from noise to image; got \[0\.0, 500\.0\]",
    ),
    "errors of no steps": (lambda: gaussian_errors([], TABLE, [1.0]), ValueError, r"timesteps must fall"),
    "errors of no variance": (lambda: gaussian_errors([500], TABLE, [0.0]), ValueError, r"positive variances"),
    "designed weights of words": (lambda: designed_schedule(2, weights=["a", "b"]), TypeError, r"got one of <U1"),
    # the process whose images shrink
    "eta of 2": (lambda: PROCESS.posterior(0.1, 0.2, eta=2), ValueError, r"eta must lie in \[0, 1\]; got 2"),
    "eta below 0": (lambda: PROCESS.posterior(0.1, 0.2, eta=-1), ValueError, r"eta must lie in \[0, 1\]; got -1"),
    "eta NaN": (lambda: PROCESS.posterior(0.1, 0.2, eta=NAN), ValueError, r"eta must lie in \[0, 1\]; got nan"),
    "eta in words": (lambda: PROCESS.posterior(0.1, 0.2, eta="1"), TypeError, r"eta must be a number; got '1'"),
    "eta through a turning point": (
        lambda: PROCESS.reverse(IMAGE, IMAGE, 0.4, 0.2, np.zeros, eta=2),
        ValueError,
        r"eta must lie in \[0, 1\]; got 2",
    ),
    "eta of doubling": (lambda: PROCESS.double(IMAGE, IMAGE, 1, np.zeros, eta=2), ValueError, r"eta must lie"),
    "transition backwards": (lambda: PROCESS.transition(0.2, 0.1), ValueError, r"s <= t; got s = 0\.2, t = 0\.1"),
    "posterior backwards": (lambda: PROCESS.posterior(0.2, 0.1), ValueError, r"s <= t; got s = 0\.2, t = 0\.1"),
    "forward backwards": (lambda: PROCESS.forward(IMAGE, 0.2, 0.1, np.zeros), ValueError, r"s <= t; got s = 0\.2"),
    "reverse forwards": (
        lambda: PROCESS.reverse(IMAGE, IMAGE, 0.1, 0.2, np.zeros),
        ValueError,
        r"s <= t; got s = 0\.2",
    ),
    "posterior of the image": (lambda: PROCESS.posterior(0, 0), ValueError, r"needs noise at the later of its times"),
    "transition from NaN": (lambda: PROCESS.transition(NAN, 0.2), ValueError, r"a time must be finite; got nan"),
    "transition in words": (lambda: PROCESS.transition("a", 0.2), TypeError, r"a time must be a number; got 'a'"),
    "stage of a time after the end": (lambda: PROCESS.stage(1.5), ValueError, r"stages 0 to 2 last .* got 1\.5"),
    "stage of no time": (lambda: PROCESS.stage(np.zeros(0)), ValueError, r"stages 0 to 2 last .* got \[\]"),
    "stage below 0": (lambda: PROCESS.gains(0.1, -1), ValueError, r"a stage must be 0 or more; got -1"),
    "stage beyond all": (lambda: PROCESS.gains(0.9, 3), ValueError, r"stages 0 to 2 last"),
    "stage in parts": (lambda: PROCESS.gains(0.1, 0.5), TypeError, r"a stage must be a whole number; got 0\.5"),
    "halving into the first stage": (
        lambda: PROCESS.halve(IMAGE, 0, np.zeros),
        ValueError,
        r"stages 1 to 2 begin at a turning point; got 0",
    ),
    "doubling out of no stage": (
        lambda: PROCESS.double(IMAGE, IMAGE, 3, np.zeros),
        ValueError,
        r"stages 1 to 2 begin at a turning point; got 3",
    ),
    "turning point in words": (lambda: AttenuatedProcess(COSINE, ("a",)), TypeError, r"turning point must be a number"),
    "attenuation in words": (
        lambda: AttenuatedProcess(COSINE, (), "0.1"),
        TypeError,
        r"attenuation must be a number; got '0\.1'",
    ),
    "attenuation a truth": (lambda: AttenuatedProcess(COSINE, (), True), TypeError, r"must be a number; got True"),
    "bound of endless energy": (
        lambda: error_bound(PROCESS, np.full(2, INF)),
        ValueError,
        r"a positive number is needed",
    ),
    "budget in words": (lambda: attenuation_within(PROCESS, np.ones(2), "1"), TypeError, r"budget must be a number"),
    "turning points of attenuation 0": (
        lambda: turning_points_within(COSINE, np.ones(2), 1.0, 0.0, 2),
        ValueError,
        r"attenuation must lie in \(0, 1\]; got 0\.0",
    ),
    "half a turning point": (
        lambda: turning_points_within(COSINE, np.ones(2), 1.0, 0.1, 1.5),
        TypeError,
        r"number of turning points .* got 1\.5",
    ),
    "turning points below 0": (
        lambda: spectral_turning_points(COSINE, np.ones(2), 0.1, -1),
        ValueError,
        r"number of turning points must be 0 or more; got -1",
    ),
    "steps of a scheduler in parts": (
        lambda: DVDPScheduler().set_timesteps(1.5),
        TypeError,
        r"num_inference_steps must be a whole number; got 1\.5",
    ),
    "steps of a scheduler a truth": (lambda: DVDPScheduler().set_timesteps(True), TypeError, r"got True"),
    "no steps of a scheduler": (lambda: DVDPScheduler().set_timesteps(0), ValueError, r"between 1 and 1000; got 0"),
    # schedulers whose settings are wrong
    "scheduler without a config": (
        lambda: Schedule.from_diffusers(scheduler(config=None, alphas_cumprod=[0.9, 0.5])),
        TypeError,
        r"config of a scheduler has names and values; that of SimpleNamespace is None",
    ),
    "alphas in words": (
        lambda: Schedule.from_diffusers(scheduler(alphas_cumprod=["a", "b"])),
        TypeError,
        r"got one of <U1",
    ),
    "alphas of objects": (lambda: Schedule.from_alphas([0.9, None]), TypeError, r"got one of object"),
    "alphas of a number": (lambda: Schedule.from_alphas(0.9), ValueError, r"alphas_cumprod must fall"),
    "flow of no timesteps": (
        lambda: Schedule.from_diffusers(flow(num_train_timesteps=0)),
        ValueError,
        r"num_train_timesteps of SimpleNamespace must be 1 or more; got 0",
    ),
    "flow of timesteps in parts": (
        lambda: Schedule.from_diffusers(flow(num_train_timesteps=1.5)),
        TypeError,
        r"num_train_timesteps of SimpleNamespace must be a whole number; got 1\.5",
    ),
    "flow that does not say": (lambda: Schedule.from_diffusers(flow()), TypeError, r"a whole number; got None"),
    "sigmas that fall": (
        lambda: Schedule.from_diffusers(continuous(sigma_min=2.0, sigma_max=1.0)),
        ValueError,
        r"sigmas of SimpleNamespace must be positive and grow; got 2 to 1",
    ),
    "sigmas of zero": (
        lambda: Schedule.from_diffusers(continuous(sigma_min=0.0, sigma_max=1.0)),
        ValueError,
        r"must be positive and grow; got 0 to 1",
    ),
    "sigmas in words": (
        lambda: Schedule.from_diffusers(continuous(sigma_min="a", sigma_max=1.0)),
        TypeError,
        r"least sigma of SimpleNamespace must be a number; got 'a'",
    ),
    # guidance that is weighed
    "guidance of no pipeline": (
        lambda: GuidanceSchedule("a pipeline", 1.0),
        TypeError,
        r"a diffusers pipeline is needed .*; got str",
    ),
    "guidance weighed by NaN": (
        lambda: GuidanceSchedule(tiny.ddim(), NAN),
        ValueError,
        r"weights of guidance must be finite; got NaN or infinity",
    ),
    "guidance weighed by a table": (
        lambda: GuidanceSchedule(tiny.ddim(), np.ones((2, 7))),
        ValueError,
        r"one weight is needed, or one for each band; got the shape \(2, 7\)",
    ),
    "guidance weighed by nothing": (
        lambda: GuidanceSchedule(tiny.ddim(), []),
        ValueError,
        r"one weight is needed, or one for each band; got the shape \(0,\)",
    ),
    "guidance weighed by words": (
        lambda: GuidanceSchedule(tiny.ddim(), lambda t: "much"),
        TypeError,
        r"weights of guidance are numbers; got 'much'",
    ),
    "an interval that ends before it begins": (
        lambda: GuidanceInterval(1.0, -1.0),
        ValueError,
        r"ends after it begins; got 1\.0 to -1\.0",
    ),
    "an interval of NaN": (lambda: GuidanceInterval(NAN, 1.0), ValueError, r"ends after it begins; got nan to 1\.0"),
    "an interval of two shapes": (
        lambda: GuidanceInterval(np.zeros(2), np.ones(3)),
        ValueError,
        r"ends after it begins; got \[0",
    ),
    "an interval of no nats": (
        lambda: guidance_interval(TOLD, 0.0),
        ValueError,
        r"more than 0 nats.*; got 0 and 0\.95",
    ),
    "an interval of all nats": (lambda: guidance_interval(TOLD, 1.0, 1.0), ValueError, r"between 0 and 1; got 1 and 1"),
    "an interval of what was not told": (
        lambda: guidance_interval(Information(-np.ones((2, 1)), np.arange(2.0), 2), 1.0),
        ValueError,
        r"nothing was told of the prompt",
    ),
    "sigmas NaN": (
        lambda: Schedule.from_diffusers(continuous(sigma_min=NAN, sigma_max=1.0)),
        ValueError,
        r"least sigma of SimpleNamespace must be finite; got nan",
    ),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_clear_error(mistake, tmp_path):
    refuse(Row(*MISTAKES[mistake]), tmp_path)
