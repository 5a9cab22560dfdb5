"""What a measurement says, in words: for titles, reports and the terminal."""

from typing import NamedTuple

import numpy as np

from reschrom.theory.chromatogram import Chromatogram
from reschrom.theory.rates import never_rising

# What is measured: what it is called, what the model does by it, and what a mean time of a band is the time of.
_MEANING = {
    "guidance": (
        "the energy of guidance in each {band}, Eq. (19)",
        "The prompt steers {model}",
        "When guidance acts on each {band}",
    ),
    "growth": (
        "the growth of the model's estimate in each {band}",
        "{model} generates",
        "When each {band} is generated",
    ),
    "squared change": (
        "the squared change of the model's estimate in each {band}",
        "The estimate of {model} changes",
        "When each {band} changes",
    ),
}


# Of what guidance adds up to, a share that one step should not have. In noise units a network that predicts the image
# or a flow has an error of 1 / sigma near the image, so that the fewer the steps, the more of it is in the last.
_MUCH = 0.25

# Of how the energies of an estimate vary, a share that should not be fall.
_FALLS = 0.5

# Under this name a measurement holds the log of the number of all prompts of as many tokens.
MOST_NATS = "nats of the prompt, at most"


class Words(NamedTuple):
    """What a measurement says.

    headline: which model does what when, one sentence without a full stop.
    facts: what was measured, on how many images of what, in how many steps.
    times: what a table of mean times is headed.
    """

    headline: str
    facts: str
    times: str


def words(chromatogram: Chromatogram) -> Words:
    """Say what a chromatogram shows, with the model, the measurement and the prompt in short."""
    about, model = chromatogram.about, chromatogram.about.get("model", "the model").rstrip("/").rpartition("/")[2]
    other = (chromatogram.name, f"{{model}}, {chromatogram.name}:", "Mean times")
    quantity, does, acts = _MEANING.get(chromatogram.name, other)
    start, end = _ends(chromatogram)
    course = f"mostly {start} all the way" if start == end else f"from {start} at first to {end} at last"
    times = chromatogram.centroids()
    if chromatogram.name == "growth" and np.isfinite(times).sum() > 1:
        course = "{} first and {} last".format(
            *(chromatogram.band_names[i(times)] for i in (np.nanargmax, np.nanargmin))
        )
    images, drawn = chromatogram.images, "image" if chromatogram.frames is None else "video"
    of = f" of {short(about['prompt'])}" if "prompt" in about else ""
    facts = [
        quantity.replace("{band}", chromatogram.band_kind),
        "" if images is None else f"mean over {images} {drawn}{'s' * (images != 1)}{of}",
        f"{about['steps']} steps" if "steps" in about else "",
        f"guidance {about['guidance']}" if "guidance" in about else "",
    ]
    headline, said = f"{does.replace('{model}', model)} {course}", ", ".join(filter(None, facts))
    return Words(headline, said, acts.replace("{band}", chromatogram.band_kind))


def short(prompts: str, length: int = 60) -> str:
    """Return the first prompt of some, one a line, in quotes and no longer than so; and how many there are more."""
    first, *others = prompts.splitlines()
    first = first if len(first) <= length else f"{first[: length - 1].rstrip()}…"
    return f"“{first}”" + (f" and {len(others)} more" if others else "")


def paragraph(chromatogram: Chromatogram, expected: Chromatogram | None = None) -> str:
    """Say in one paragraph which resolution is made when, how sure that is, and what the paper's formula expects."""
    said, times = words(chromatogram), chromatogram.centroids()
    low, high = chromatogram.centroid_interval() if chromatogram.replicates is not None else (times, times)
    when = [
        f"{name} {time:.0f}" + (f" ± {(above - below) / 2:.0f}" if above > below else "")
        for name, time, below, above in zip(chromatogram.band_names, times, low, high, strict=True)
        if np.isfinite(time)
    ]
    text = f"{said.headline}. Measured: {said.facts}. Mean timestep of each {chromatogram.band_kind}, 95 % interval: "
    text += ", ".join(reversed(when)) + "."
    if expected is not None:
        theirs = expected.centroids()
        text += f" The paper's formula expects {expected.band_names[-1]} at {theirs[-1]:.0f} and "
        text += f"{expected.band_names[0]} at {theirs[0]:.0f}."
    return " ".join(filter(None, [text, nats(chromatogram), fall(chromatogram)]))


def fall(chromatogram: Chromatogram) -> str:
    """Say where a growth is mostly what the estimate loses and not what it gains; "" where it is not, or is no growth.

    A fit that never falls leaves out what the measured energies fall by. Of networks read rightly and without guidance
    it left out 0 to 17 % of their variance in most runs, of the velocity taken for noise 98 to 100 %.
    """
    source = chromatogram.source
    if source is None or source.precision is None:
        return ""
    energies, weights = source.energies.mean, source.precision
    about_mean = energies - np.average(energies, axis=-1, weights=weights)[:, None]
    varies = (weights * about_mean**2).sum()
    left_out = (weights * (energies - never_rising(energies, weights)) ** 2).sum() / (varies if varies > 0 else 1.0)
    if left_out <= _FALLS:
        return ""
    return (
        f"Beware: {left_out:.0%} of the variance of the energies measured is fall, where those of a good estimate only "
        "grow. That is due to strong guidance, too little training, or a scheduler whose prediction type is another "
        "than the network's; these times mean little."
    )


def nats(chromatogram: Chromatogram) -> str:
    """Say what the guidance of a measurement adds up to, and whether a prompt can say so much; "" for no guidance."""
    if chromatogram.source is None or not chromatogram.source.guidance:
        return ""
    told = chromatogram.information()
    low, high = (bound[-1] for bound in told.gained_interval())
    halfway = _time(chromatogram, told.reaches(told.total / 2))
    text = (
        f"Half the energy of guidance adds up to {_few(told.total)} ± {_few((high - low) / 2)} nats, half of them by "
    )
    text += f"timestep {halfway:.0f}."
    last = 1 - told.gained[:, -2].sum() / told.total if told.total > 0 else 0.0
    if last > _MUCH:
        text += (
            f" {last:.0%} of them are in the last step alone, where errors of the predictions count most: all mean "
            "timesteps are drawn towards it."
        )
    if MOST_NATS in chromatogram.about:
        most = float(chromatogram.about[MOST_NATS])
        text += f" The tokens of the prompt say {_few(most)} nats at most"
        passed = _time(chromatogram, told.reaches(most))
        text += f"; what guidance does after timestep {passed:.0f} is not the prompt." if passed < np.inf else "."
    return text


def _few(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _time(chromatogram: Chromatogram, log_snr: float) -> float:
    """Return the timestep of a log SNR, between the edges of a measurement; NaN where that is NaN."""
    assert chromatogram.source is not None
    return float(np.interp(1 / (1 + np.exp(-log_snr)), chromatogram.source.alphas[::-1], chromatogram.edges[::-1]))


def _ends(chromatogram: Chromatogram) -> tuple[str, str]:
    """Return the mean resolution of the first fifth of the steps of a generation, and of the last."""
    ridge = chromatogram.ridge()[::-1]
    ridge = ridge[np.isfinite(ridge)]
    if not len(ridge):
        return "nothing", "nothing"
    fifth = max(len(ridge) // 5, 1)
    start, end = (chromatogram.band_names[round(float(part.mean()))] for part in (ridge[:fifth], ridge[-fifth:]))
    return start, end
