"""Three ways to show one photograph: as it is, painted in oil, and sketched in pencil.

Both filters leave strokes of two to six pixels, which are still seen in an image of 64x64 pixels. They are made of
Gaussian blurs, gradients and drawn lines; nothing is learned.
"""

from collections.abc import Callable

import numpy as np

from reschrom.images.pictures import Picture

_SUPERSAMPLING = 4
# Old varnish takes some of the blue away.
_VARNISH = np.array([1.0, 0.96, 0.86])


def photo(picture: Picture, generator: np.random.Generator) -> Picture:
    """Return the photograph itself."""
    return picture


def oil_painting(picture: Picture, generator: np.random.Generator) -> Picture:
    """Paint over a photograph with short thick strokes along its contours, in its own colours made stronger.

    Broad strokes first, then narrow ones where the picture changes; every stroke has one colour, a little lighter or
    darker than the place it covers.
    """
    from PIL import Image, ImageDraw
    from scipy.ndimage import gaussian_filter

    height, width = picture.shape[:2]
    colours = gaussian_filter(picture.astype(np.float64), (0.7, 0.7, 0))
    grey = colours.mean(axis=-1, keepdims=True)
    colours = (grey + 1.5 * (colours - grey)) * _VARNISH
    down, right = np.gradient(gaussian_filter(grey[..., 0], 2))
    contrast = np.hypot(*np.gradient(gaussian_filter(grey[..., 0], 1)))

    canvas = Image.new("RGB", (_SUPERSAMPLING * width, _SUPERSAMPLING * height), (200, 180, 140))
    brush = ImageDraw.Draw(canvas)
    for length, thickness, spacing, least in ((8, 3.2, 2.5, 0.0), (4.5, 1.5, 1.6, 6.0)):
        rows, columns = np.meshgrid(np.arange(0, height, spacing), np.arange(0, width, spacing), indexing="ij")
        centres = np.stack([rows.ravel(), columns.ravel()], axis=1)
        centres = generator.permutation(centres + generator.uniform(-spacing / 2, spacing / 2, centres.shape))
        places = np.clip(centres, 0, [height - 1, width - 1]).astype(int)
        keep = contrast[tuple(places.T)] >= least
        centres, places = centres[keep], tuple(places[keep].T)
        # Where the picture is flat the direction of its gradient is chance; strokes then lean one way.
        angles = np.arctan2(-right[places] - 0.7, down[places] + 0.7) + generator.normal(0, 0.25, len(centres))
        halves = _SUPERSAMPLING * length / 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        middles = _SUPERSAMPLING * centres[:, ::-1]
        paints = np.clip(colours[places] + generator.normal(0, 12, (len(centres), 1)), 0, 255).astype(int)
        ends = np.concatenate([middles - halves, middles + halves], axis=1)
        for line, paint in zip(ends.tolist(), paints.tolist(), strict=True):
            brush.line(line, fill=tuple(paint), width=round(_SUPERSAMPLING * thickness))
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


def pencil_sketch(picture: Picture, generator: np.random.Generator) -> Picture:
    """Draw a photograph in pencil: dark lines at its edges, hatching in its shadows, grey on near-white paper."""
    from scipy.ndimage import gaussian_filter

    grey = picture.astype(np.float64).mean(axis=-1) / 255
    smooth = gaussian_filter(grey, 0.5)
    lines = np.clip(smooth / np.maximum(gaussian_filter(grey, 3), 0.05), 0, 1) ** 2.2
    lines *= 1 - np.clip(3 * np.hypot(*np.gradient(smooth)), 0, 0.7)
    rows, columns = np.indices(grey.shape)
    hatching = 0.5 + 0.5 * np.sin((rows + columns) * 2 * np.pi / 4 + generator.uniform(0, 2 * np.pi))
    shadow = np.clip(0.75 - gaussian_filter(grey, 1), 0, 1)
    tone = 1 - 0.9 * shadow * (0.35 + 0.65 * hatching)
    grain = 1 - 0.04 * generator.random(grey.shape)
    drawn = np.round(250 * np.clip(lines * tone * grain, 0.08, 1)).astype(np.uint8)
    return np.repeat(drawn[..., None], 3, axis=-1)


# Caption prefix -> how a photograph becomes such a picture.
STYLES: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "a photo of": photo,
    "an oil painting of": oil_painting,
    "a pencil sketch of": pencil_sketch,
}
