"""Temporal bands: orthonormal along time for any number of frames, as chromatograms, in files and against theory."""

import re
from dataclasses import replace

import numpy as np
import pytest
import pywt
import torch
from doors.door import Row, refuse

from reschrom import Chromatogram, Schedule, designed_schedule, generated_signal
from reschrom.plots.report import report
from reschrom.plots.words import words
from reschrom.theory.intervals import StreamingMean
from reschrom.theory.source import Source
from reschrom.theory.temporal_bands import frame_names, temporal_bands

# Frames of each cell at each level, joined by hand: of an odd number the larger end stays alone, or the last.
CELLS = {
    1: [[1]],
    2: [[1, 1], [2]],
    3: [[1, 1, 1], [2, 1], [3]],
    5: [[1] * 5, [2, 2, 1], [2, 3], [5]],
    6: [[1] * 6, [2, 2, 2], [4, 2], [6]],
    7: [[1] * 7, [2, 2, 2, 1], [4, 3], [7]],
    8: [[1] * 8, [2] * 4, [4, 4], [8]],
    9: [[1] * 9, [2, 2, 2, 2, 1], [2, 4, 3], [6, 3], [9]],
    11: [[1] * 11, [2] * 5 + [1], [4, 4, 3], [4, 7], [11]],
}


def means(cells):
    """Return the matrix that gives every frame the mean of its cell."""
    return np.block([[np.full((a, b), (i == j) / a) for j, b in enumerate(cells)] for i, a in enumerate(cells)])


@pytest.mark.parametrize("frames", CELLS)
def test_each_band_is_the_difference_of_the_means_of_two_levels(frames):
    rows = [band[..., 0, 0, 0] for band in temporal_bands(np.eye(frames)[:, :, None, None, None])]
    whole = np.concatenate(rows, axis=1)
    np.testing.assert_allclose(whole.T @ whole, np.eye(frames), atol=1e-14)  # so white noise stays white
    levels = [*map(means, CELLS[frames]), np.zeros((frames, frames))]
    assert len(rows) == len(CELLS[frames]) == len(frame_names(frames))
    for row, fine, coarse in zip(rows, levels, levels[1:], strict=False):
        np.testing.assert_allclose(row @ row.T, fine - coarse, atol=1e-14)


@pytest.mark.parametrize("frames", [2, 4, 16])
def test_of_a_power_of_two_it_is_the_haar_transform(frames):
    video = np.random.default_rng(0).standard_normal((2, frames, 3, 4, 5))
    haar = pywt.wavedec(video, "haar", axis=1)
    for mine, theirs in zip(temporal_bands(video), haar[::-1], strict=True):
        np.testing.assert_allclose(np.abs(mine), np.abs(theirs), atol=1e-14)
    assert frame_names(4) == ["4 frames", "2 frames", "1 frame"]


def test_tensors_keep_their_dtype_and_agree_with_arrays():
    video = np.random.default_rng(1).standard_normal((2, 7, 1, 2, 2)).astype(np.float32)
    for tensor, array in zip(temporal_bands(torch.from_numpy(video)), temporal_bands(video), strict=True):
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor, array, rtol=1e-5, atol=1e-6)


def measured(images=3, first=0, precision=None):
    """Return the chromatogram of a measurement of videos of five frames, at four times."""
    energies, edges = StreamingMean(0), np.array([0.0, 0.2, 0.5, 0.9])
    columns = 3 if precision is None else 4
    energies.add(np.random.default_rng(first).uniform(1, 2, (images, 4, columns)), first)
    source = Source(energies, Schedule.cosine().alpha(edges), precision)
    return Chromatogram.measured(source, edges, (6, 8), "growth", frames=5)


@pytest.mark.parametrize("name", ["video.json", "video.npz"])
def test_a_file_holds_the_frames_and_parts_merge(tmp_path, name):
    parts = [measured(2), measured(3, 2)]
    for each in parts:
        each.save(tmp_path / name)
        again = Chromatogram.load(tmp_path / name)
        assert (again.frames, again.size, again.band_names) == (
            5,
            (6, 8),
            ["5 frames", "3 frames", "2 frames", "1 frame"],
        )
        np.testing.assert_array_equal(again.replicates, each.replicates)
    merged = Chromatogram.merge(parts)
    assert (merged.frames, merged.images) == (5, 5)
    np.testing.assert_allclose(merged.rates, (2 * parts[0].rates + 3 * parts[1].rates) / 5)


def test_growth_of_temporal_bands_never_falls():
    grown = measured(precision=np.ones(4))
    assert (grown.frames, grown.rates.shape, grown.rates.min()) == (5, (4, 3), 0)


def test_theory_counts_two_for_a_halving_of_time_and_four_for_one_of_an_image():
    video = measured()
    expected, alphas = video.expected(), video.source.alphas
    held = np.array([power * alphas / (power * alphas + 1 - alphas) for power in (1, 2, 4, 8)])
    np.testing.assert_allclose(expected.rates * np.diff(video.edges), -np.diff(held), rtol=1e-12)
    images = generated_signal(alphas[:-1], 1, since=alphas[1:])  # powers 1 and 4
    np.testing.assert_allclose(expected.rates[[0, 2]] * np.diff(video.edges), images, rtol=1e-12)
    assert expected.compare(expected).divergence == 0
    assert (expected.frames, expected.name) == (5, "paper's $r_m$")


def test_figures_and_words_name_the_bands():
    video = measured()
    labels = [text.get_text() for text in video.plot().axes[1].get_yticklabels()]
    assert labels == ["1 frame", "2 frames", "3 frames", "5 frames"]
    assert "each temporal resolution" in words(video).facts
    page = report(video, [video.expected()])
    assert "↑ temporal resolution" in page
    assert "measured: mean temporal resolution, 95 % interval" in page
    assert re.search(r"<th scope=\"row\">5 frames</th>", page)
    assert list(video.to_dataframe()) == ["time", "5 frames", "3 frames", "2 frames", "1 frame"]


def of_frames(frames, bands=1):
    return Chromatogram(np.ones((bands, 1)), np.arange(2.0), 8, "made up", frames=frames)


def file_of(frames):
    with open("video.json", "w") as file:
        file.write(f'{{"name": "a", "size": 8, "edges": [0, 1], "rates": [[1]], "frames": {frames}}}')
    return Chromatogram.load("video.json")


ROWS = {
    "no frames": Row(lambda: of_frames(0), ValueError, r"whole number of frames, one or more; got 0"),
    "fewer": Row(lambda: of_frames(-4), ValueError, r"got -4"),
    "a truth": Row(lambda: of_frames(True), ValueError, r"got True"),
    "another count": Row(lambda: of_frames(4), ValueError, r"of 4 frames on 1 steps has rates of shape \(3, 1\)"),
    "bands of sizes": Row(lambda: of_frames(1, 4), ValueError, r"of 1 frame on 1 steps has rates of shape \(1, 1\)"),
    "a spectrum": Row(lambda: measured().expected([1.0] * 4), ValueError, r"a spectrum of images does not say"),
    "a theory": Row(lambda: replace(measured(), source=None).expected(), ValueError, r"only a measurement"),
    "compared": Row(
        lambda: measured().compare(replace(measured(), size=8, frames=None)), ValueError, r"got 5 frames on .* and 8x8"
    ),
    "other frames merged": Row(
        lambda: Chromatogram.merge([measured(), replace(measured(2, 3), frames=7)]),
        ValueError,
        r"the number of frames differs: 5 and 7",
    ),
    "images merged": Row(
        lambda: Chromatogram.merge([measured(), replace(measured(2, 3), size=8, frames=None)]),
        ValueError,
        r"the size differs",
    ),
    "designed": Row(
        lambda: designed_schedule(8, wanted=replace(measured(), size=8)),
        ValueError,
        r"8x8 pixels .* got one of 5 frames",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_are_no_temporal_bands_is_refused(tmp_path, name):
    refuse(ROWS[name], tmp_path)


@pytest.mark.parametrize("frames", ["0", "-1", "true", "3"])
def test_a_file_with_other_frames_is_refused(tmp_path, monkeypatch, frames):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"video.json does not hold a chromatogram: .*frame") as caught:
        file_of(frames)
    assert "\n" not in str(caught.value)
