"""A picture is measured as it looks: whatever its samples, its transparency, its rotation and its frames."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from reschrom.images.decoding import decoded

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 4), np.uint8)
COLOUR, ALPHA = Image.fromarray(PIXELS[..., :3]), Image.fromarray(PIXELS[..., 3])
GREY = COLOUR.convert("L")
DEEP = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
PALETTE = COLOUR.quantize(16)


def saved(picture: Image.Image, kind: str, **settings: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **settings)
    return content.getvalue()


def reopened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    return white.convert("RGB")


def transparent(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    picture = picture.copy()
    picture.putalpha(alpha)
    return picture


def keyed(picture: Image.Image, key: object) -> Image.Image:
    """The picture with one transparent colour, the first pixel's."""
    picture = picture.copy()
    picture.info["transparency"] = key
    return picture


def deep_graymap(white: int) -> bytes:
    values = np.asarray(GREY).astype(np.uint32) * white // 255
    return f"P5 10 6 {white}\n".encode() + values.astype(">u2").tobytes()


FIRST = tuple(int(value) for value in PIXELS[0, 0, :3])
SECOND = COLOUR.transpose(Image.Transpose.ROTATE_180)


def held(turn: int) -> bytes:
    """The EXIF data of a camera that was held this way."""
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif.tobytes()


READ = {
    # as Pillow turns them into RGB
    "RGB": (saved(COLOUR, "PNG"), COLOUR),
    "grey": (saved(GREY, "PNG"), GREY),
    "black and white": (saved(GREY.convert("1"), "PNG"), GREY.convert("1")),
    "palette": (saved(PALETTE, "PNG"), PALETTE),
    "CMYK": (saved(COLOUR.convert("CMYK"), "TIFF"), COLOUR.convert("CMYK")),
    "YCbCr": (saved(COLOUR.convert("YCbCr"), "TIFF"), COLOUR.convert("YCbCr")),
    "LAB": (saved(COLOUR.convert("LAB"), "TIFF"), COLOUR.convert("LAB")),
    # 16 bits are the same picture as 8
    "deep PNG": (saved(DEEP, "PNG"), GREY),
    "deep TIFF": (saved(DEEP, "TIFF"), GREY),
    "deep TIFF of the other order": (
        saved(Image.frombytes("I;16B", DEEP.size, np.asarray(DEEP).astype(">u2").tobytes()), "TIFF"),
        GREY,
    ),
    "deep JPEG 2000": (saved(DEEP, "JPEG2000"), GREY),
    "deep graymap": (deep_graymap(65535), GREY),
    "graymap of 10 bits": (deep_graymap(1020), GREY),
    "deep and turned": (
        saved(DEEP, "PNG", exif=held(6)),
        GREY.transpose(Image.Transpose.ROTATE_270),
    ),
    # what is transparent lies on white
    "RGBA": (saved(transparent(COLOUR, ALPHA), "PNG"), on_white(transparent(COLOUR, ALPHA))),
    "RGBA that hides nothing": (saved(transparent(COLOUR, Image.new("L", COLOUR.size, 255)), "PNG"), COLOUR),
    "LA": (saved(transparent(GREY, ALPHA), "PNG"), on_white(transparent(GREY, ALPHA))),
    "palette with one transparent colour": (
        saved(PALETTE, "PNG", transparency=3),
        on_white(keyed(PALETTE, 3)),
    ),
    "palette with opacities": (
        saved(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))),
        on_white(keyed(PALETTE, bytes(range(0, 256, 16)))),
    ),
    "RGB with one transparent colour": (saved(COLOUR, "PNG", transparency=FIRST), on_white(keyed(COLOUR, FIRST))),
    "GIF": (saved(PALETTE, "GIF", transparency=3), on_white(keyed(PALETTE, 3))),
    "WebP": (
        saved(transparent(COLOUR, ALPHA), "WEBP", lossless=True, exact=True),
        on_white(transparent(COLOUR, ALPHA)),
    ),
    # of frames and pages the first
    "animated WebP": (saved(COLOUR, "WEBP", lossless=True, save_all=True, append_images=[SECOND]), COLOUR),
    "animated PNG": (saved(COLOUR, "PNG", save_all=True, append_images=[SECOND]), COLOUR),
    "animated GIF": (saved(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]), PALETTE),
    "pages": (saved(COLOUR, "TIFF", save_all=True, append_images=[SECOND]), COLOUR),
    # upright
    **{
        f"turned as {turn} in {kind}": (saved(COLOUR, kind, exif=held(turn)), ImageOps.exif_transpose(tagged))
        for turn in range(1, 9)
        for kind in ("PNG", "TIFF")
        for tagged in [reopened(saved(COLOUR, "PNG", exif=held(turn)))]
    },
    "EXIF that says nothing": (saved(COLOUR, "PNG", exif=b"Exif\0\0II*\0\xff\xff\0\0aaaa"), COLOUR),
}


@pytest.mark.parametrize("kind", READ)
def test_a_picture_is_read_as_it_looks(kind):
    content, expected = READ[kind]
    read = decoded(content, "a.png")
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("kind", ["AVIF", "JPEG"])
def test_a_camera_held_upright_is_seen_in_what_loses_pixels_too(kind):
    content = saved(COLOUR.resize((160, 96)), kind, exif=held(8))
    assert decoded(content, "a").size == (96, 160)
