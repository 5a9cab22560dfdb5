r"""Prompts as they are written for AUTOMATIC1111's web UI: their documented meaning, at the steps of any sampler."""

import functools
import itertools

import diffusers
import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import embedded

from reschrom import Chromatogram, PromptSchedule, Schedule, heaviside, switch_time
from reschrom.pipelines.prompt_syntax import WrittenPrompt
from reschrom.pipelines.prompt_weights import Moment

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning", "ignore:__array_wrap__ must:DeprecationWarning"
)
SCENE = "a [hill:lake:0.25] and [an oak:a fir:0.75][ in front::0.6][ behind:0.25] [dull:bright:0.5]"
# What is written, the number of steps, and each prompt with the last step at which it speaks.
CASES = [
    # Nothing changes.
    ("a ship", 3, [(3, "a ship")]),
    ("", 2, [(2, "")]),
    ("ship: oil | canvas", 2, [(2, "ship: oil | canvas")]),
    # [from:to:when], a whole number of steps after which the switch is made
    ("a [castle:city:16] at night", 20, [(16, "a castle at night"), (20, "a city at night")]),
    ("a [castle:city:1]", 3, [(1, "a castle"), (3, "a city")]),
    ("a [castle:city:20]", 20, [(20, "a castle")]),
    ("a [castle:city:30]", 20, [(20, "a castle")]),
    ("a [castle:city:0]", 2, [(2, "a city")]),
    # ... or a fraction of them, rounded down
    ("a [castle:city:0.4]", 20, [(8, "a castle"), (20, "a city")]),
    ("a [castle:city:.5]", 10, [(5, "a castle"), (10, "a city")]),
    ("a [castle:city:0.5]", 5, [(2, "a castle"), (5, "a city")]),
    ("a [castle:city:0.29]", 100, [(29, "a castle"), (100, "a city")]),  # 0.29 * 100 is 28.999999999999996
    ("a [castle:city:0.1]", 5, [(5, "a city")]),
    ("a [castle:city:0.0]", 2, [(2, "a city")]),
    # [to:when] adds, [from::when] removes, [:to:when] is the first with an empty text
    ("a house[ by the sea:3]", 5, [(3, "a house"), (5, "a house by the sea")]),
    ("a house[ by the sea::3]", 5, [(3, "a house by the sea"), (5, "a house")]),
    ("a house[: by the sea:3]", 5, [(3, "a house"), (5, "a house by the sea")]),
    ("[fog:.5]", 4, [(2, ""), (4, "fog")]),
    # Spaces are kept, but around the number.
    ("a [ red : blue : 2 ] door", 4, [(2, "a  red  door"), (4, "a  blue  door")]),
    # Several at once, as in the documentation's example of 100 steps
    (
        SCENE,
        100,
        [
            (25, "a hill and an oak in front dull"),
            (50, "a lake and an oak in front behind dull"),
            (60, "a lake and an oak in front behind bright"),
            (75, "a lake and an oak behind bright"),
            (100, "a lake and a fir behind bright"),
        ],
    ),
    ("[a:b:2][c:d:0.5]", 6, [(2, "ac"), (3, "bc"), (6, "bd")]),
    ("[a:b:2][c:d:0.5]", 2, [(1, "ac"), (2, "ad")]),
    # Nested
    ("x[a:[b:c:2]:1]y", 4, [(1, "xay"), (2, "xby"), (4, "xcy")]),
    ("[[a:b:1]:c:0.5]", 4, [(1, "a"), (2, "b"), (4, "c")]),
    ("[a:[b::3]:1]", 4, [(1, "a"), (3, "b"), (4, "")]),
    # [a|b] takes turns, from the first on.
    ("a [cow|horse] outside", 3, [(1, "a cow outside"), (2, "a horse outside"), (3, "a cow outside")]),
    ("[s|]he", 3, [(1, "she"), (2, "he"), (3, "she")]),
    ("[ox|ox|man|cat]", 5, [(2, "ox"), (3, "man"), (4, "cat"), (5, "ox")]),
    ("[a:[b|c]:1]", 4, [(1, "a"), (2, "c"), (3, "b"), (4, "c")]),
    ("[[a:b:2]|c]", 4, [(1, "a"), (2, "c"), (3, "b"), (4, "c")]),
    # A backslash makes a letter of what has a meaning.
    (r"a \(round\) [\[old\]:10\:30:1] clock", 2, [(1, "a (round) [old] clock"), (2, "a (round) 10:30 clock")]),
    (r"back\\slash", 1, [(1, "back\\slash")]),
]


def half(band):
    return 0.5


def said(read, steps):
    """Return the prompt of every step, with times that fall evenly from 1."""
    return [read.at(Moment(1 - (step - 1) / steps, step, steps)) for step in range(1, steps + 1)]


def at_each_step(runs):
    lengths = np.diff([0, *(last for last, _ in runs)])
    return [text for length, (_, text) in zip(lengths, runs, strict=True) for _ in range(length)]


@pytest.mark.parametrize(("written", "steps", "runs"), CASES, ids=[f"{written} {steps}" for written, steps, _ in CASES])
def test_what_is_written_has_its_documented_meaning(written, steps, runs):
    assert len(CASES) >= 30
    read = WrittenPrompt(written, half)
    assert said(read, steps) == at_each_step(runs)
    assert set(said(read, steps)) <= set(read.texts)


NESTED = st.recursive(
    st.sampled_from(["a", "b ", "", "c"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner, st.sampled_from(["0", "1", "3", "7", "0.3", ".5", "0.99", "8x8", "4x4"])).map(
            lambda parts: "[{}:{}:{}]".format(*parts)
        ),
        st.lists(inner, min_size=2, max_size=3).map(lambda options: f"[{'|'.join(options)}]"),
        st.tuples(inner, inner).map("".join),
    ),
    max_leaves=5,
)


@given(NESTED, st.integers(1, 12))
def test_every_prompt_that_is_said_is_among_the_texts_whatever_the_number_of_steps(written, steps):
    try:
        read = WrittenPrompt(written, lambda band: {8: 0.3, 4: 0.6}[band])
        texts = read.texts
    except ValueError as error:
        assert "at most" in str(error)  # noqa: PT017 - too many texts are refused, and nothing else is
        return
    for each, moment in zip(said(read, steps), range(1, steps + 1), strict=True):
        weights = read.weights(Moment(1 - (moment - 1) / steps, moment, steps))
        assert texts[int(np.flatnonzero(weights)[0])] == each
        assert weights.sum() == 1
    assert len(texts) == len(set(texts))


WORDS = ["a photo of a ship", "a painting of a ship"]
WRITTEN = "a [photo:painting:{}] of a ship"


def shown(scheduler, written, steps, chromatogram=None, **settings):
    """Return which of the texts each call of the network was given, and what was drawn."""
    pipeline = tiny.stable_diffusion(scheduler=scheduler)
    known, seen = {text: embedded(10 + k) for k, text in enumerate([*WORDS, ""])}, []
    pipeline.encode_prompt = lambda prompt, *_, **__: (known[prompt], known[""])
    forward = pipeline.unet.forward

    @functools.wraps(forward)
    def listening(sample, timestep, encoder_hidden_states=None, **kwargs):
        seen.append(next(text for text in known if torch.equal(known[text], encoder_hidden_states)))
        return forward(sample, timestep, encoder_hidden_states, **kwargs)

    pipeline.unet.forward = listening
    usual = {"output_type": "latent", "guidance_scale": 1.0, "generator": torch.Generator().manual_seed(0)}
    with PromptSchedule.parse(pipeline, written, chromatogram):
        images = pipeline(written, num_inference_steps=steps, **usual | settings).images
    return [WORDS.index(text) for text in seen], images


ONCE = {
    "DDIM": lambda: diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
    "Euler": lambda: diffusers.EulerDiscreteScheduler(steps_offset=1),
    "DPM++": lambda: diffusers.DPMSolverMultistepScheduler(steps_offset=1),
    "UniPC": lambda: diffusers.UniPCMultistepScheduler(steps_offset=1),
}
TWICE = {
    "Heun": lambda: diffusers.HeunDiscreteScheduler(steps_offset=1),
    "DPM2": lambda: diffusers.KDPM2DiscreteScheduler(steps_offset=1),
    "DPM2 ancestral": lambda: diffusers.KDPM2AncestralDiscreteScheduler(steps_offset=1),
}


@pytest.mark.lasting
@pytest.mark.parametrize("when", ["2", "0.4"])
@pytest.mark.parametrize("name", [*ONCE, *TWICE])
def test_a_step_has_one_prompt_however_often_it_evaluates_the_network(name, when):
    calls, _ = shown((ONCE | TWICE)[name](), WRITTEN.format(when), 5)
    # all steps but the last, which ends in the image, are evaluated twice
    assert calls == ([0, 0, 1, 1, 1] if name in ONCE else [0, 0, 0, 0, 1, 1, 1, 1, 1])


@pytest.mark.lasting
@pytest.mark.parametrize("name", TWICE)
def test_turns_are_taken_from_step_to_step(name):
    calls, _ = shown(TWICE[name](), "a [photo|painting] of a ship", 4)
    assert calls == [0, 0, 1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("skip", "evaluations"), [(True, [2, 1, 1, 1, 1]), (False, [4, 4, 4, 1, 1])], ids=["PLMS", "Runge-Kutta"]
)
@pytest.mark.parametrize("when", [1, 3])
def test_the_steps_of_pndm_are_counted_by_its_own_evaluations(skip, evaluations, when):
    calls, _ = shown(diffusers.PNDMScheduler(skip_prk_steps=skip, steps_offset=1), WRITTEN.format(when), 5)
    assert calls == [int(step >= when) for step, count in enumerate(evaluations) for _ in range(count)]


def test_the_written_prompt_draws_what_the_same_weights_draw():
    scheduler = ONCE["DDIM"]
    _, images = shown(scheduler(), WRITTEN.format(2), 5)
    pipeline = tiny.stable_diffusion(scheduler=scheduler())
    pipeline.encode_prompt = lambda prompt, *_, **__: (embedded(10 + WORDS.index(prompt)), embedded(12))
    settings = {"output_type": "latent", "guidance_scale": 1.0, "num_inference_steps": 5}
    with PromptSchedule(pipeline, WORDS, heaviside(0.5)):  # timesteps 801, 601, 401, 201, 1
        expected = pipeline(WORDS[1], generator=torch.Generator().manual_seed(0), **settings).images
    assert torch.equal(images, expected)


@pytest.mark.lasting
@pytest.mark.parametrize("name", ["DDIM", "Heun"])
def test_a_resolution_keeps_itself_and_what_is_coarser(name):
    scheduler = (ONCE | TWICE)[name]()
    schedule = Schedule.from_diffusers(scheduler)
    signal = np.array([[9.0, 4.0, 1.0, 1.0], [8.0, 8.0, 6.0, 4.0], [7.0, 7.0, 5.0, 2.0], [5.0, 5.0, 5.0, 4.9]])
    measured = Chromatogram.from_signal(signal, np.array([0.0, 350.0, 600.0, 999.0]), 8, "growth")
    predicted = Chromatogram.predicted(schedule, 8)
    for chromatogram, given_to_parse in ((measured, measured), (predicted, None)):
        # all bands coarser than 8x8 are 4x4 and what is coarser than that
        t = switch_time(chromatogram, 8)
        calls, _ = shown(scheduler, WRITTEN.format("4x4"), 10, given_to_parse)
        times = scheduler.timesteps.double().numpy()
        first = [k for k, call in enumerate(calls) if call == 0][-1]
        assert calls == sorted(calls)
        assert times[first] > t >= times[first + 1]
        assert 0 < sum(calls) < len(calls)


def test_a_switch_by_resolution_belongs_to_the_size_that_is_generated():
    with pytest.raises(ValueError, match=r"read for 8x8 and 4x4 is generated; give `parse` a chromatogram"):
        shown(ONCE["DDIM"](), WRITTEN.format("4x4"), 3, height=8, width=8)
    other = Chromatogram.predicted(Schedule.from_diffusers(ONCE["DDIM"]()), 4)
    calls, _ = shown(ONCE["DDIM"](), WRITTEN.format("2x2"), 5, other, height=8, width=8)
    assert set(calls) == {0, 1}


def test_weights_of_ones_own_may_count_steps():
    asked = []
    pipeline = tiny.stable_diffusion(scheduler=TWICE["Heun"]())
    pipeline.encode_prompt = lambda prompt, *_, **__: (embedded(10), embedded(12))
    with PromptSchedule(pipeline, ["a"], lambda t: (asked.append((t.step, t.steps)), [1.0])[1]):
        asked.clear()
        pipeline("a", num_inference_steps=3, output_type="latent", guidance_scale=1.0)
    assert list(dict.fromkeys(asked)) == [(step, 3) for step in (1, 2, 3)]
    assert [len(list(group)) for _, group in itertools.groupby(asked)] == [2, 2, 1]
