"""A measurement as one HTML file: it opens from disk, asks nothing of the network, and holds its own data."""

import base64
import csv
import html
import io
import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.colors import to_hex

from reschrom.plots.chromatograms import ridge_colours, scaled_shares
from reschrom.plots.words import nats, words
from reschrom.theory.chromatogram import Chromatogram

_TEMPLATE = Path(__file__).with_name("report.html")
# Width of the drawing in its own units; the page stretches it.
_WIDTH = 1000.0
# Pictures of a strip are shown no larger.
_PIXELS = 192

Picture = Float[np.ndarray, "channels height width"]


class Sample(NamedTuple):
    """One image on its way from noise: at each of some timesteps what the model saw, and its estimate of the image.

    Pictures have the shape (3, H, W) or (1, H, W), values in [-1, 1].
    """

    timesteps: list[float]
    noised: list[Picture]
    estimates: list[Picture]


def png(picture: Picture, pixels: int | None = None) -> bytes:
    """Return a picture as a PNG file, averaged down to at most so many pixels where these are given."""
    from PIL import Image

    values = np.rint((np.clip(np.moveaxis(picture, 0, -1), -1, 1) + 1) * 127.5).astype(np.uint8)
    image = Image.fromarray(values if values.shape[-1] == 3 else values[..., 0])
    if pixels is not None and max(image.size) > pixels:
        image.thumbnail((pixels, pixels), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def report(chromatogram: Chromatogram, theories: Sequence[Chromatogram] = (), sample: Sample | None = None) -> str:
    """Return the page of a measurement.

    theories: at most two, the paper's and that of a spectrum (`Chromatogram.expected`), whose ridges are drawn too.
    sample: one image of the measurement, for the strip above the map.
    """
    said = words(chromatogram)
    fields = {
        "title": html.escape(said.headline),
        "headline": " ".join(f'<span class="word">{html.escape(word)}</span>' for word in said.headline.split(" ")),
        "facts": html.escape(
            " ".join(filter(None, [f"{said.facts[:1].upper()}{said.facts[1:]}.", nats(chromatogram)]))
        ),
        "heading": html.escape(said.times),
        "strip": "" if sample is None else _strip(sample),
        "bands": "".join(f"<span>{name}</span>" for name in chromatogram.band_names),
        "kind": chromatogram.band_kind,
        "rows": str(len(chromatogram.rates)),
        "map": _map(chromatogram, theories),
        "label": html.escape(_spoken(chromatogram, theories)),
        "ticks": _ticks(chromatogram),
        "scale": ", ".join(to_hex(ridge_colours()(x)) for x in np.linspace(0, 1, 9)),
        "legend": _legend(chromatogram, theories),
        "times": _times(chromatogram, theories),
        "settings": "".join(
            f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>"
            for key, value in {"images": str(chromatogram.images or "unknown"), **chromatogram.about}.items()
        ),
        "json": _uri("application/json", _plain(chromatogram)),
        "csv": _uri("text/csv", _table(chromatogram)),
        "data": _hover(chromatogram).replace("</", "<\\/"),
    }
    return string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(fields)


def _uri(kind: str, content: str | bytes) -> str:
    plain = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(plain).decode()}"


def _strip(sample: Sample) -> str:
    rows = (
        ("noised", "what the model sees", sample.noised),
        ("estimate", "its estimate of the image", sample.estimates),
    )
    parts = []
    for kind, label, pictures in rows:
        images = "".join(
            f'<img src="{_uri("image/png", png(picture, _PIXELS))}" alt="{_ALT[kind]} at timestep {time:g}">'
            for time, picture in zip(sample.timesteps, pictures, strict=True)
        )
        parts.append(f'<div class="name">{label}</div><div class="strip">{images}</div>')
    return "".join(parts)


_ALT = {"noised": "The noised image", "estimate": "The model's estimate of the image"}


def _map(chromatogram: Chromatogram, theories: Sequence[Chromatogram]) -> str:
    """Return the heat map and the ridges, to stand in an SVG as wide as _WIDTH and a unit a band high."""
    edges = _across(chromatogram, chromatogram.edges)
    colours, parts = ridge_colours(), []
    for row, band in enumerate(scaled_shares(chromatogram)):
        for left, right, share in zip(edges[1:], edges[:-1], band, strict=True):
            place = f'x="{left:.2f}" y="{row}" width="{right - left:.2f}" height="1"'
            parts.append(f'<rect {place} fill="{to_hex(colours(share))}"/>')
    if chromatogram.replicates is not None:
        low, high = chromatogram.ridge_interval()
        for part in _runs(np.isfinite(low)):
            x = _across(chromatogram, chromatogram.times[part])
            outline = [*zip(x, low[part], strict=True), *zip(x[::-1], high[part][::-1], strict=True)]
            parts.append(f'<polygon class="sure" points="{_points(outline)}"/>')
    for each, kind in [*zip(theories, ("paper", "spectrum"), strict=False), (chromatogram, "measured")]:
        ridge = each.ridge()
        for part in _runs(np.isfinite(ridge)):
            points = _points(zip(_across(chromatogram, each.times[part]), ridge[part], strict=True))
            parts += [f'<polyline class="casing" points="{points}"/>', f'<polyline class="{kind}" points="{points}"/>']
    return "".join(parts)


def _across(chromatogram: Chromatogram, times: np.ndarray) -> np.ndarray:
    """Return how far from the left a time stands: noise is left."""
    start, end = chromatogram.edges[0], chromatogram.edges[-1]
    return (end - times) / (end - start) * _WIDTH


def _points(pairs: object) -> str:
    return " ".join(f"{x:.2f},{y + 0.5:.4f}" for x, y in pairs)  # type: ignore[attr-defined]


def _runs(wanted: np.ndarray) -> list[slice]:
    """Return the stretches of True as slices."""
    changes = np.flatnonzero(np.diff(np.concatenate([[0], wanted.astype(int), [0]])))
    return [slice(first, last) for first, last in changes.reshape(-1, 2)]


def _ticks(chromatogram: Chromatogram) -> str:
    from matplotlib.ticker import MaxNLocator

    start, end = chromatogram.edges[0], chromatogram.edges[-1]
    marks = np.array([mark for mark in MaxNLocator(5).tick_values(start, end) if start <= mark <= end])
    places = _across(chromatogram, marks) / _WIDTH
    return "".join(f'<span style="left:{place:.2%}">{mark:g}</span>' for place, mark in zip(places, marks, strict=True))


def _legend(chromatogram: Chromatogram, theories: Sequence[Chromatogram]) -> str:
    interval = "" if chromatogram.replicates is None else ", 95 % interval"
    names = {"measured": f"measured: mean {chromatogram.band_kind}{interval}"}
    names |= dict(
        zip(("paper", "spectrum"), ("the paper's formula", "a Gaussian field with the spectrum"), strict=True)
    )
    kinds = ["measured", "paper", "spectrum"][: 1 + len(theories)]
    line = '<svg width="40" height="10" aria-hidden="true"><line x1="1" x2="39" y1="5" y2="5" class="key {}"/></svg>'
    return "".join(f"<span>{line.format(kind)} {names[kind]}</span>" for kind in kinds)


def _times(chromatogram: Chromatogram, theories: Sequence[Chromatogram]) -> str:
    """Return the table of the mean timestep of every resolution, coarse first."""
    theirs = ("the paper's", "the spectrum's")[: len(theories)]
    heads = [chromatogram.band_kind, "mean timestep", "95 % interval", *theirs]
    rows = ["".join(f'<th scope="col">{head}</th>' for head in heads)]
    means = chromatogram.centroids()
    low, high = (
        chromatogram.centroid_interval() if chromatogram.replicates is not None else (np.full_like(means, np.nan),) * 2
    )
    expected = [each.centroids() for each in theories]
    for m in reversed(range(len(means))):
        cells = [_number(means[m]), f"{_number(low[m])} to {_number(high[m])}" if np.isfinite(low[m]) else "–"]
        cells += [_number(each[m]) for each in expected]
        name = f'<th scope="row">{chromatogram.band_names[m]}</th>'
        rows.append(name + "".join(f"<td>{cell}</td>" for cell in cells))
    head, *body = (f"<tr>{row}</tr>" for row in rows)
    return f"<thead>{head}</thead><tbody>{''.join(body)}</tbody>"


def _number(value: float) -> str:
    return "never" if np.isnan(value) else f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _spoken(chromatogram: Chromatogram, theories: Sequence[Chromatogram]) -> str:
    """Say for who cannot see it what the map shows."""
    largest = chromatogram.shares.argmax(axis=0)[::-1]
    count = len(largest)
    at = [(chromatogram.times[::-1][i], chromatogram.band_names[largest[i]]) for i in (0, count // 2, count - 1)]
    course = ", ".join(f"{name} at timestep {time:.0f}" for time, name in at)
    lines = " Dashed: the paper's formula." if theories else ""
    return (
        f"Heat map of the share of each {chromatogram.band_kind} over time, noise on the left. "
        f"The largest share is that of {course}. A solid line shows the mean {chromatogram.band_kind}.{lines}"
    )


def _bounds(chromatogram: Chromatogram) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of every share, or the shares themselves where none is known."""
    return chromatogram.interval() if chromatogram.replicates is not None else (chromatogram.shares,) * 2


def _hover(chromatogram: Chromatogram) -> str:
    """Return what the page shows under the pointer, from noise to image."""
    low, high = _bounds(chromatogram)
    return json.dumps(
        {
            "bands": chromatogram.band_names,
            "times": [round(float(time), 3) for time in chromatogram.times[::-1]],
            "edges": [round(float(x) / _WIDTH, 5) for x in _across(chromatogram, chromatogram.edges)[::-1]],
            "shares": chromatogram.shares.T[::-1].round(4).tolist(),
            "lower": low.T[::-1].round(4).tolist(),
            "upper": high.T[::-1].round(4).tolist(),
        }
    )


def _plain(chromatogram: Chromatogram) -> str:
    """Return the chromatogram as its JSON file holds it, without replicates."""
    keys = {"name": chromatogram.name, "size": chromatogram.size, "about": chromatogram.about}
    frames = {} if chromatogram.frames is None else {"frames": chromatogram.frames}
    return json.dumps({**keys, **frames, "edges": chromatogram.edges.tolist(), "rates": chromatogram.rates.tolist()})


def _table(chromatogram: Chromatogram) -> str:
    low, high = _bounds(chromatogram)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["timestep", chromatogram.band_kind, "share", "lower", "upper"])
    for m, name in enumerate(chromatogram.band_names):
        for step, time in enumerate(chromatogram.times):
            table.writerow([time, name, chromatogram.shares[m, step], low[m, step], high[m, step]])
    return text.getvalue()
