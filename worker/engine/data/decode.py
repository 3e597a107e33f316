"""One image file to pixels, whatever a camera, a drawing program or a broken disk has made of it."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

PIXELS_LIMIT = 50_000_000
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What is opened. Pillow knows more, and some of those start programs or follow paths."""
SUFFIXES = {"png", "jpg", "jpeg", "jpe", "gif", "bmp", "webp", "tif", "tiff", "ppm", "pgm", "pbm"}
_BY_SUFFIX = {"jpg": "JPEG", "jpe": "JPEG", "tif": "TIFF", "pgm": "PPM", "pbm": "PPM"}
_GRAY = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N"}
_KNOWN = _GRAY | {"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "LAB", "HSV"}

Image.MAX_IMAGE_PIXELS = PIXELS_LIMIT
warnings.simplefilter("error", Image.DecompressionBombWarning)


class BadImage(Exception):
    """A file that gives no image; ``str()`` says why."""


@dataclass(frozen=True)
class Header:
    """What is known before the pixels are."""

    width: int
    """As it is shown, so after its EXIF rotation."""
    height: int
    mode: str
    gray: bool
    alpha: bool
    frames: int
    format: str
    turned: bool
    """Whether it is shown otherwise than it is stored."""


def header(data: bytes) -> Header:
    """Look at a file. Raises BadImage."""
    with _opened(data) as image:
        try:
            return _header(image)
        except Exception as error:  # a file that is cut in its metadata
            raise BadImage(_said(error)) from error


def _header(image: Image.Image) -> Header:
    width, height = image.size
    orientation = image.getexif().get(0x0112, 1)
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return Header(
        width=width,
        height=height,
        mode=image.mode,
        gray=image.mode in _GRAY or (image.mode == "P" and _gray_palette(image)),
        alpha=image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info,
        frames=int(getattr(image, "n_frames", 1)),
        format=str(image.format),
        turned=orientation in range(2, 9),
    )


def pixels(data: bytes, *, channels: int, side: int | None) -> npt.NDArray[np.uint8]:
    """uint8 [C, H, W] of the first frame, turned upright, transparency on white. Raises BadImage.

    With ``side`` the short side is resized to it and the centre cut out.
    """
    with _opened(data) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
            plain = _flatten(upright).convert("L" if channels == 1 else "RGB")
            if side is not None:
                plain = _fit(plain, side)
        except Exception as error:  # decoders raise whatever their file format makes them stumble on
            raise BadImage(_said(error)) from error
        array = np.asarray(plain, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def matches_suffix(suffix: str, format_: str) -> bool:
    """Whether a file's name says what its content is."""
    return _BY_SUFFIX.get(suffix, suffix.upper()) == format_


def _opened(data: bytes) -> Image.Image:
    if not data:
        raise BadImage("the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # as above
        raise BadImage(_said(error)) from error
    if image.mode not in _KNOWN:
        raise BadImage(f"the colour mode {image.mode} is not supported; store it with 8 or 16 bits a channel")
    return image


def _flatten(image: Image.Image) -> Image.Image:
    """Eight bits a channel, without transparency."""
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        values = np.asarray(image, dtype=np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage(f"its values reach from {values.min()} to {values.max()}; 16 bits hold 0 to 65535")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        shown = image.convert("RGBA")
        ground = Image.new("RGBA", shown.size, "white")
        return Image.alpha_composite(ground, shown).convert("RGB")
    return image


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Short side to ``side`` (bilinear over the area that a pixel covers), then the centre."""
    width, height = image.size
    scale = side / min(width, height)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return image.crop((left, top, left + side, top + side))


def _gray_palette(image: Image.Image) -> bool:
    palette = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _said(error: Exception) -> str:
    if isinstance(error, BadImage):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {PIXELS_LIMIT:,} pixels"
    if isinstance(error, MemoryError):
        return "it needs more memory than a validation has"
    return str(error)[:200] or type(error).__name__
