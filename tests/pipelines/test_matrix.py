"""The instrument on every pipeline class of the zoo: right, or refused in one line; never wrong, and never a crash."""

from pathlib import Path

import pytest
import torch
from zoo import CASES
from zoo.matrix import CRASHED, RIGHT, WRONG, cells, classes, measured, recording, rendered, verdict

from reschrom import Chromatograph

PAGE = Path(__file__).parents[2] / "book" / "pipelines.md"
# Classes that few people run, or that do what no other does: these may be refused.
MAY_BE_REFUSED = {
    "AllegroPipeline",
    "AnimateDiffSDXLPipeline",
    "Cosmos2TextToImagePipeline",  # a scheduler of flows that steps x_0 + sigma noise
    "HunyuanImagePipeline",  # its guider projects
    "Kandinsky5T2IPipeline",  # channels stand last
    "SkyReelsV2Pipeline",
    "Krea2Pipeline",  # tells positions to its network under a name of its own
    "LDMPipeline",
    "LDMSuperResolutionPipeline",
    "LDMTextToImagePipeline",
    "LTXImageToVideoPipeline",  # the first frame is given, and not stepped
    "LattePipeline",
    "LuminaPipeline",  # guides three channels of four
    "MarigoldIntrinsicsPipeline",
    "StableDiffusionLatentUpscalePipeline",
    "StableDiffusionPipeline, guided at first",
    "StableDiffusionSAGPipeline",
    "TextToVideoSDPipeline",
    "WuerstchenPriorPipeline",
}
DEFINITELY_RIGHT = {name for name, case in CASES.items() if not case.refused and name not in MAY_BE_REFUSED}
CELLS = list(cells())


def costly(name, variation):
    """Whether a cell waits for `make test`: all but what most people run, as they run it."""
    return variation != "default" or "," in name or name in MAY_BE_REFUSED


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("name", "variation"), [pytest.param(*cell, marks=[pytest.mark.slow] * costly(*cell)) for cell in CELLS]
)
def test_a_pipeline_is_measured_rightly_or_refused(name, variation):
    said = verdict(name, variation)
    failed = said.startswith((WRONG, CRASHED)) or (said != RIGHT and name in DEFINITELY_RIGHT)
    assert not failed, said


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.refused])
def test_what_is_said_of_a_case_is_what_its_scheduler_was_given(name):
    moments = recording(name)
    if CASES[name].altered:
        assert max(moment.apart for moment in moments) > 1e-3
        return
    for moment in moments:
        assert moment.apart < 1e-5
        assert abs(sum(moment.weights.values())) == pytest.approx(1, abs=1e-2)
        assert max(moment.weights, key=lambda branch: abs(moment.weights[branch])) == "conditional"


def test_the_matrix_has_the_classes_that_people_run():
    assert len(classes(CASES)) >= 60
    assert {name for name, _ in CELLS} == set(CASES)


@pytest.mark.slow
def test_the_page_lists_what_was_measured():
    assert rendered(measured()) in PAGE.read_text(encoding="utf-8")


def lowered(value):
    """Return tensors of numbers in bfloat16, in lists too."""
    if isinstance(value, list):
        return [lowered(each) for each in value]
    return value.bfloat16() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(name for name in DEFINITELY_RIGHT if "," not in name))
def test_half_precision_tells_the_same_branches(name):
    case, seen = CASES[name], []
    for change in (lambda each: each, lowered):
        pipeline, given = case.build(), case.variation("default")
        if change is lowered:
            pipeline = pipeline.to(torch.bfloat16)
            try:
                with torch.no_grad():
                    pipeline(**{key: lowered(value) for key, value in given.items()})
            except (RuntimeError, ValueError, TypeError) as error:
                pytest.skip(f"the pipeline itself does not run so: {error}")
            given = case.variation("default")
        with torch.no_grad(), Chromatograph(pipeline) as meter:
            pipeline(**{key: change(value) for key, value in given.items()})
        seen.append((meter.images, len(meter.timesteps), meter.chromatogram.name, meter.branches))
    assert seen[0] == seen[1]
