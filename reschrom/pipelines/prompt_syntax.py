r"""Prompts that change as they are written for AUTOMATIC1111's web UI: `a [photo:painting:0.4] of a [cat|dog]`.

| written      | meaning                                                                     |
| ------------ | --------------------------------------------------------------------------- |
| `[a:b:when]` | a, and b after `when`; a or b may be empty                                  |
| `[b:when]`   | nothing, and b after `when`                                                 |
| `[a|b|...]`  | a in the first step, b in the second, and so on, then again from the first  |
| `\[`, `\(`   | the bracket itself; a backslash does so with any letter                     |

`when` is a whole number of steps, a fraction of all steps below 1, rounded down, or a resolution such as `16x16`: there
a goes on until the bands up to this one are made. All of it nests. Spaces stay as they are written.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

from reschrom.pipelines.adapter import denoisers_of
from reschrom.pipelines.prompt_weights import Moment
from reschrom.pipelines.scheduler import schedule_of, share_of_time
from reschrom.theory.bands import Size, band_names, sides, size_of
from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.shares import check_clock, kept_until

# The most prompts that one text may ask for, counted before equal ones are found.
_MOST = 256
# What means something else to others who read such prompts.
_FOREIGN = re.compile(r"\b(AND|BREAK)\b|<\w+:[^>]*>")


@dataclass(frozen=True)
class AfterSteps:
    """The end of a step, counted from 1; 0 is the beginning."""

    value: int

    def is_over(self, moment: Moment) -> bool:
        return moment.step > self.value


@dataclass(frozen=True)
class AfterShare:
    """The end of the step at which a share of all steps is made, rounded down."""

    value: Fraction

    def is_over(self, moment: Moment) -> bool:
        return moment.step > math.floor(self.value * moment.steps)


@dataclass(frozen=True)
class UntilTime:
    """The time t / T, which falls; at 0 it is never over, as with `heaviside`."""

    value: float

    def is_over(self, moment: Moment) -> bool:
        return self.value > 0 and moment <= self.value


When = AfterSteps | AfterShare | UntilTime


@dataclass(frozen=True)
class Edit:
    """One text before, and another after."""

    before: "Text"
    after: "Text"
    when: When


@dataclass(frozen=True)
class Alternation:
    """Texts that take turns, one a step."""

    options: "tuple[Text, ...]"


Text = tuple[str | Edit | Alternation, ...]


class WrittenPrompt:
    """A prompt that was read: the text at each moment, and all texts that there can be.

    Parameters
    ----------
    written : str
        In the syntax of this module.
    switch_at : callable
        The t / T at which all bands up to a resolution are made, for `16x16` in the place of a step.

    Raises
    ------
    ValueError
        For brackets that do not match or mean something else here, and for too many prompts.
    """

    def __init__(self, written: str, switch_at: Callable[[Size], float]) -> None:
        if not isinstance(written, str):
            raise TypeError(f"a prompt that changes is one text; got {type(written).__name__}")
        foreign = _FOREIGN.search(written)
        if foreign:
            raise ValueError(f"{foreign[0]} is of another syntax and has no meaning here; got {written!r}")
        self._text = _Reader(written, switch_at).text()

    def at(self, moment: Moment) -> str:
        """Return the prompt at a moment."""
        return _rendered(self._text, lambda when: when.is_over(moment), moment.step - 1)

    def weights(self, moment: Moment) -> Float[np.ndarray, " texts"]:
        """Return the weight of each of `texts` at a moment, as `PromptSchedule` takes them: one of them speaks."""
        return np.eye(len(self.texts))[self.texts.index(self.at(moment))]

    @functools.cached_property
    def texts(self) -> list[str]:
        """All prompts that there can be, whatever the number of steps, the first one first.

        Edits of one kind, by steps, shares or times, happen in one order; how they mix depends on the number of steps.
        """
        edits, turns = list(_whens(self._text)), math.lcm(*_turns(self._text))
        lines = [
            sorted({w for w in edits if type(w) is kind}, key=_order) for kind in (AfterSteps, AfterShare, UntilTime)
        ]
        if turns * math.prod(len(line) + 1 for line in lines) > _MOST:
            raise ValueError(f"a prompt may change between {_MOST} texts at most; this one does between more")
        states = itertools.product(*(range(len(line) + 1) for line in lines))
        over = [{when for line, k in zip(lines, state, strict=True) for when in line[:k]} for state in states]
        return list(
            dict.fromkeys(_rendered(self._text, each.__contains__, turn) for each in over for turn in range(turns))
        )


def _order(when: When) -> float:
    """Return what grows in the order in which edits of one kind happen."""
    return -when.value if isinstance(when, UntilTime) else float(when.value)


def _rendered(text: Text, is_over: Callable[[When], bool], turn: int) -> str:
    words = []
    for part in text:
        if isinstance(part, str):
            words.append(part)
        elif isinstance(part, Edit):
            words.append(_rendered(part.after if is_over(part.when) else part.before, is_over, turn))
        else:
            words.append(_rendered(part.options[turn % len(part.options)], is_over, turn))
    return "".join(words)


def _parts(text: Text) -> Iterator[Edit | Alternation]:
    """Return all that changes in a text, however deep."""
    for part in text:
        if not isinstance(part, str):
            yield part
            for inner in (part.before, part.after) if isinstance(part, Edit) else part.options:
                yield from _parts(inner)


def _whens(text: Text) -> Iterator[When]:
    return (part.when for part in _parts(text) if isinstance(part, Edit))


def _turns(text: Text) -> Iterator[int]:
    return (len(part.options) for part in _parts(text) if isinstance(part, Alternation))


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, written: str, switch_at: Callable[[Size], float]) -> None:
        self._written, self._switch_at, self._place = written, switch_at, 0

    def text(self) -> Text:
        """Read all of it."""
        text, stop = self._until("")
        if stop:
            raise self._refusal(f"{stop} closes nothing")
        return text

    def _until(self, stops: str) -> tuple[Text, str]:
        """Read up to one of these letters, or to a bracket that closes: what stands before, and the letter."""
        parts: list[str | Edit | Alternation] = []
        words = ""
        while self._place < len(self._written):
            letter = self._written[self._place]
            self._place += 1
            if letter == "\\" and self._place < len(self._written):
                words += self._written[self._place]
                self._place += 1
            elif letter == "(":
                raise self._refusal("( begins a weight, and what a weight does to an encoding differs between encoders")
            elif letter == "[":
                parts += [words, self._bracket()]
                words = ""
            elif letter in stops or letter in ")]":
                return (*parts, words), letter
            else:
                words += letter
        return (*parts, words), ""

    def _bracket(self) -> Edit | Alternation:
        """Read what stands between two square brackets, after the first."""
        start, texts, between, begins = self._place, list[Text](), "", [self._place]
        while True:
            text, stop = self._until(":|")
            texts.append(text)
            if stop == "]":
                break
            if not stop or stop == ")" or (between and stop != between):
                self._place = start
                raise self._refusal(
                    "[ does not close" if stop in ("", ")") else "[ mixes : and |; nest one in the other"
                )
            between = stop
            begins.append(self._place)
        if between == "|":
            return Alternation(tuple(texts))
        if between == "":
            raise self._refusal("[word] without : or | is a weight, and what it does differs between encoders")
        if len(texts) > 3:
            raise self._refusal(r"[a:b:when] has one or two texts; write \: for a colon")
        when = self._when(self._written[begins[-1] : self._place - 1].strip())
        before, after = texts[:-1] if len(texts) == 3 else ((), texts[0])
        return Edit(before, after, when)

    def _when(self, word: str) -> When:
        if match := re.fullmatch(r"(\d+)x(\d+)", word):
            return UntilTime(self._switch_at(size_of(int(match[1]), int(match[2]))))
        if re.fullmatch(r"\d+", word):
            return AfterSteps(int(word))
        if re.fullmatch(r"\d*\.\d+|\d+\.", word) and Fraction(word) < 1:
            return AfterShare(Fraction(word))
        raise self._refusal(
            f"[a:b:when] ends in steps, a fraction of them below 1 or a resolution like 16x16, not {word!r}"
        )

    def _refusal(self, why: str) -> ValueError:
        return ValueError(rf"{why}, at letter {self._place} of {self._written!r}; \( and \[ are brackets themselves")


class Resolutions:
    """When the bands of a pipeline are made, by a chromatogram, or by the paper's r_m for the size of its network.

    size: of the images by whose bands a time was asked for; None until then.
    """

    def __init__(self, pipeline: Any, chromatogram: Chromatogram | None) -> None:
        self._pipeline, self._chromatogram = pipeline, chromatogram
        self.size: Size | None = None

    def switch_at(self, band: Size) -> float:
        """Return the t / T at which this band and all coarser ones have 95 % of what they gain."""
        scheduler = self._pipeline.scheduler
        schedule, made = schedule_of(scheduler), self._chromatogram
        if made is None:
            denoiser = denoisers_of(self._pipeline)[0]
            size = getattr(denoiser.config, "sample_size", None)
            if size is None:
                name = type(denoiser).__name__
                raise ValueError(f"{name} does not say its size: {band_names(band)[0]} needs a chromatogram")
            made = Chromatogram.predicted(schedule, size_of(*sides(size)))
        check_clock(made, schedule)
        self.size = made.size
        return share_of_time(scheduler, schedule, kept_until(made, band))
