"""What `CoarseFirst` and the field behind its expectation refuse, in one line each, when made or when called."""

import diffusers
import numpy as np
import pytest
import tiny
import torch
from doors.door import Row, refuse

from reschrom import CoarseFirst, StationaryField, handover

NAN = float("nan")
SPECTRUM = [0.1, 0.4, 1.5, 6.0]
FIELD = StationaryField(np.ones((8, 8)))


def made(pipeline=tiny.ddim, spectrum=SPECTRUM, **settings):
    return lambda: CoarseFirst(pipeline(), spectrum, **settings)


def called(shape, pipeline=tiny.ddim, spectrum=SPECTRUM, level=1, **inputs):
    """Call the network of a pipeline within the block."""

    def call():
        held = pipeline()
        network = getattr(held, "unet", None) or held.transformer
        with CoarseFirst(held, spectrum, turning_points=[0.0] * level):
            network(torch.zeros(shape), torch.tensor(500), **inputs)

    return call


def with_parts(**parts):
    def build():
        pipeline = tiny.stable_diffusion()
        for name, part in parts.items():
            setattr(pipeline, name, part)
        return pipeline

    return build


def exchanged():
    pipeline = tiny.ddim()
    with CoarseFirst(pipeline, SPECTRUM, turning_points=[0.0]):
        pipeline.scheduler = diffusers.DDIMScheduler()
        pipeline(num_inference_steps=1)


def latent():
    return tiny.stable_diffusion(scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False))


def wide_unet():
    pipeline = tiny.stable_diffusion()
    pipeline.unet = tiny.conditional_unet(9, 4)
    return pipeline


TEXT = {"encoder_hidden_states": tiny.embedded(1)}
REFUSED = {
    "tolerance below 0": (made(tolerance=-0.1), ValueError, r"tolerance must lie in \[0, inf\]; got -0\.1"),
    "tolerance NaN": (made(tolerance=NAN), ValueError, r"tolerance must .* got nan"),
    "levels 0": (made(levels=0), ValueError, r"levels says how often images are halved at most, 1 to 3; got 0"),
    "levels beyond the bands": (made(levels=4), ValueError, r"1 to 3; got 4"),
    "no steps": (made(steps=0), ValueError, r"the number of steps must be 1 or more; got 0"),
    "falling turning points": (made(turning_points=[500, 300]), ValueError, r"rising times, fewer than the 4 bands"),
    "turning point NaN": (made(turning_points=[NAN]), ValueError, r"rising times, .* got \[nan\]"),
    "too many turning points": (made(turning_points=[1, 2, 3, 4]), ValueError, r"fewer than the 4 bands; got"),
    "spectrum with zero": (made(spectrum=[0.0, 1.0]), ValueError, r"2 positive variances"),
    "spectrum that no field has": (made(spectrum=[0.01, 9.0, 0.01, 9.0]), ValueError, r"no Gaussian field .* nearest"),
    "no file": (made(spectrum="none.json"), FileNotFoundError, r"none\.json"),
    "no pipeline": (made(pipeline=lambda: torch.nn.Linear(1, 1)), TypeError, r"a diffusers pipeline is needed"),
    "a ControlNet": (made(with_parts(controlnet=1)), TypeError, r"no ControlNet or adapter beside it; got Stable"),
    "nine channels": (made(wide_unet), TypeError, r"sees 9 channels and predicts 4"),
    "EDM": (
        made(lambda: tiny.stable_diffusion(scheduler=diffusers.EDMEulerScheduler())),
        ValueError,
        r"predicts one of epsilon, .*; this one edm_epsilon",
    ),
    "a spectrum of another size": (called((1, 3, 16, 16)), ValueError, r"5 bands is needed for 16x16 .* got 4"),
    "an odd side": (called((1, 3, 7, 8)), ValueError, r"level 1 needs sides that are multiples of 2; got .* 7x8"),
    "a video": (called((1, 3, 2, 8, 8)), ValueError, r"images \(N, C, H, W\) or their tokens; .* \(1, 3, 2, 8, 8\)"),
    "residuals of a ControlNet": (
        called((1, 4, 8, 8), latent, mid_block_additional_residual=torch.zeros(1, 4, 2, 2), **TEXT),
        ValueError,
        r"cannot halve what StableDiffusionPipeline shows its network besides the image",
    ),
    "another scheduler": (exchanged, ValueError, r"the scheduler was exchanged after CoarseFirst was made"),
    "power of no field": (
        lambda: StationaryField(np.ones((4, 6))),
        ValueError,
        r"\(S, S\), S a power of two; got \(4, 6\)",
    ),
    "power below 0": (lambda: StationaryField(-np.ones((4, 4))), ValueError, r"is 0 or more; got -1"),
    "power NaN": (lambda: StationaryField(np.full((4, 4), NAN)), ValueError, r"power of waves must be finite"),
    "pooled too often": (lambda: FIELD.pooled(4), ValueError, r"images of 8 pixels are halved 3 times; got 4"),
    "steps that fall": (lambda: handover(FIELD, [0.5, 0.1], [0, 0]), ValueError, r"rising signal powers"),
    "a level too few": (lambda: handover(FIELD, [0.1, 0.5], [0]), ValueError, r"one level each; got .* 1 levels"),
    "level too deep": (lambda: handover(FIELD, [0.1], [4]), ValueError, r"halved 3 times at most; got 4"),
    "eta above 1": (lambda: handover(FIELD, [0.1], [1], eta=2), ValueError, r"eta must lie in \[0, 1\]; got 2"),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_gives_one_clear_error(mistake, tmp_path):
    refuse(Row(*REFUSED[mistake]), tmp_path)
