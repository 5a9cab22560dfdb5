"""Temporal bands of every video pipeline: what its frames are, added up to what its resolutions are."""

import numpy as np
import pytest
import tiny
import torch
from doors.door import Row, refuse
from zoo import CASES
from zoo.matrix import RIGHT, judged
from zoo.videos import REFUSED_FRAMES, VIDEOS, of_frames

from reschrom import Chromatogram, Chromatograph

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LENGTHS = [
    pytest.param(name, frames, marks=[pytest.mark.slow] * (name not in ("WanPipeline", "CogVideoXPipeline")))
    for name in VIDEOS
    for frames in (1, 2, 5, 8)
    if frames not in REFUSED_FRAMES.get(name, ())
]


@pytest.mark.parametrize("variation", ["default", "guidance off"])
@pytest.mark.parametrize(("name", "frames"), LENGTHS)
def test_a_video_of_any_length_is_measured_rightly(name, frames, variation):
    case = CASES[name]
    said = judged(name, lambda: case.variation(variation) | of_frames(name, frames), case.size)
    assert said == RIGHT


def measured(name="WanPipeline", frames=5, first=0, images=1, **settings):
    """Return the meter of a run of four steps."""
    case = CASES[name]
    pipeline = case.build()
    with torch.no_grad(), Chromatograph(pipeline, first_image=first, **settings) as meter:
        given = case.call(True, None, images, 4) | of_frames(name, frames)
        pipeline(**given | {"generator": tiny.generators(images, first)})
    return meter


def test_temporal_bands_are_beside_the_spatial_ones():
    meter = measured()
    assert meter.chromatogram.band_names == ["8x8", "4x4", "2x2", "1x1"]
    told = {quantity: meter.temporal(quantity) for quantity in ("guidance", "growth", "changes")}
    for each in (meter.temporal(), *told.values()):
        assert each.band_names == ["5 frames", "3 frames", "2 frames", "1 frame"]
    assert [each.name for each in told.values()] == [meter.guidance.name, meter.growth.name, meter.changes.name]
    np.testing.assert_array_equal(meter.temporal().rates, told["guidance"].rates)
    for quantity in ("guidance", "changes"):
        spatial, temporal = getattr(meter, quantity), told[quantity]
        np.testing.assert_array_equal(temporal.edges, spatial.edges)
        np.testing.assert_allclose(temporal.rates.sum(axis=0), spatial.rates.sum(axis=0), rtol=1e-5)
        np.testing.assert_allclose(temporal.replicates.sum(axis=1), spatial.replicates.sum(axis=1), rtol=1e-5)


def test_without_guidance_they_are_those_of_growth():
    case = CASES["CogVideoXPipeline"]
    pipeline = case.build()
    with torch.no_grad(), Chromatograph(pipeline) as meter:
        pipeline(**case.variation("guidance off"))
    assert meter.temporal().name == meter.chromatogram.name == "growth"


def test_theory_of_a_part_counts_its_pixels_and_its_frames():
    meter = measured()
    whole, part, spatial = meter.temporal("growth"), meter.temporal("growth", "4x4"), meter.growth.expected()
    assert (part.name, part.band_names) == ("growth of 4x4", whole.band_names)
    # Averaging four pixels thins noise as averaging four frames does.
    np.testing.assert_allclose(part.expected().rates[:2], whole.expected().rates[2:], rtol=1e-9)
    np.testing.assert_allclose(part.expected().rates[0], spatial.rates[1], rtol=1e-9)


@pytest.mark.lasting
def test_videos_measured_apart_merge_in_their_temporal_bands():
    whole = measured(images=3).temporal("growth", "2x2")
    parts = [measured(first=first, images=count).temporal("growth", "2x2") for first, count in ((0, 2), (2, 1))]
    merged = Chromatogram.merge(parts)
    np.testing.assert_allclose(merged.rates, whole.rates, rtol=1e-4, atol=1e-6 * whole.rates.max())
    assert (merged.images, merged.frames) == (3, 5)


def two_lengths():
    case = CASES["WanPipeline"]
    pipeline = case.build()
    with torch.no_grad(), Chromatograph(pipeline) as meter:
        for frames in (5, 8):  # of four temporal bands each
            pipeline(**case.variation("default") | of_frames("WanPipeline", frames))
    return meter


def image():
    pipeline = tiny.ddim()
    with Chromatograph(pipeline) as meter:
        pipeline(batch_size=1, num_inference_steps=2, output_type="np")
    return meter


ROWS = {
    "images": Row(
        lambda: image().temporal(), ValueError, r"only videos have temporal bands; DDIMPipeline makes images"
    ),
    "growth of images": Row(lambda: image().temporal("growth", "8x8"), ValueError, r"only videos have temporal bands"),
    "another quantity": Row(lambda: measured().temporal("energy"), ValueError, r"guidance, growth or changes; got 'en"),
    "no quantity": Row(lambda: measured().temporal(""), ValueError, r"guidance, growth or changes; got ''"),
    "another resolution": Row(
        lambda: measured().temporal(resolution="3x3"), ValueError, r"8x8, 4x4, 2x2, 1x1; got '3x3'"
    ),
    "frames for a resolution": Row(
        lambda: measured().temporal(resolution="5 frames"), ValueError, r"a resolution of these videos is one of 8x8"
    ),
    "two lengths": Row(two_lengths, ValueError, r"the same size; got 8 frames of 8x8 after 5 frames of 8x8"),
    "merged with another part": Row(
        lambda: Chromatogram.merge([measured().temporal("changes", each) for each in ("8x8", "4x4")]),
        ValueError,
        r"what is measured differs: squared change of 8x8 and squared change of 4x4",
    ),
    "decoded": Row(
        lambda: measured("AnimateDiffPipeline", decoded=True),
        ValueError,
        r"only images are decoded, not the videos of AnimateDiffPipeline; leave out decoded",
    ),
    "nothing": Row(lambda: Chromatograph(tiny.ddim()).temporal(), ValueError, r"nothing was measured"),
}


@pytest.mark.lasting
@pytest.mark.parametrize("name", ROWS)
def test_what_has_no_temporal_bands_is_refused(tmp_path, name):
    refuse(ROWS[name], tmp_path)
