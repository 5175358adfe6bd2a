"""One DICOM image as a PNG that a person can look at: the grey values through the window that the file names.

For the demo, not for diagnosis: the first frame of uncompressed grey images of 8 or 16 bits (PS3.5 8.1, PS3.3
C.11.2.1.2), uncompressed RGB, and JPEG Baseline as Pillow reads it. Anything else is `Unsupported` and says what it is.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mdg.errors import Unsupported

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


def middle_of(folder: Path) -> Path:
    """The file in the middle of the longest series of images below `folder`, by InstanceNumber. `Unsupported` when
    there is no image."""
    from pydicom import dcmread

    tags = ["SeriesInstanceUID", "InstanceNumber", "Rows"]
    series: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = dcmread(path, stop_before_pixels=True, specific_tags=tags)
        if header.get("Rows"):
            place = (int(header.get("InstanceNumber") or 0), path)
            series.setdefault(str(header.get("SeriesInstanceUID")), []).append(place)
    if not series:
        raise Unsupported(folder.name, "the study has no image")
    longest = max((sorted(images) for images in series.values()), key=len)
    return longest[len(longest) // 2][1]


def write_png(instance: Path, png: Path) -> None:
    """Draws the first frame of `instance` into `png`. `Unsupported` when it is of a kind that this does not draw."""
    from pydicom import dcmread

    image = dcmread(instance)
    if "PixelData" not in image:
        raise Unsupported(instance.name, "it has no PixelData")
    _draw(image, instance.name).save(png)


def _draw(image: Dataset, name: str) -> Image.Image:
    size = (int(image.Columns), int(image.Rows))
    syntax = image.file_meta.TransferSyntaxUID
    if syntax == JPEG_BASELINE:
        from pydicom.encaps import generate_frames

        frame = next(generate_frames(image.PixelData, number_of_frames=int(image.get("NumberOfFrames") or 1)))
        return Image.open(io.BytesIO(frame)).convert("RGB")
    if syntax.is_compressed or not syntax.is_little_endian:
        raise Unsupported(name, f"{syntax.name} is not drawn")
    match (image.PhotometricInterpretation, int(image.SamplesPerPixel), int(image.BitsAllocated)):
        case ("RGB", 3, 8) if not image.get("PlanarConfiguration"):
            return Image.frombytes("RGB", size, image.PixelData[: 3 * size[0] * size[1]])
        case ("MONOCHROME1" | "MONOCHROME2" as kind, 1, (8 | 16) as bits):
            pixels = image.PixelData[: bits // 8 * size[0] * size[1]]
            values = Image.frombytes("L" if bits == 8 else "I;16", size, pixels).convert("L" if bits == 8 else "I")
            return values.point(_greys(image, bits, kind == "MONOCHROME1"), "L")
    raise Unsupported(name, f"{image.PhotometricInterpretation} of {image.BitsAllocated} bits is not drawn")


def _greys(image: Dataset, bits: int, inverse: bool) -> Sequence[int]:
    """The grey of each stored value, by modality and VOI transformation."""
    slope, intercept = float(image.get("RescaleSlope") or 1), float(image.get("RescaleIntercept") or 0)
    signed = bool(image.get("PixelRepresentation"))
    low, high = _window(image, slope, intercept, signed, bits)
    greys = []
    for stored in range(1 << bits):
        value = (stored - (1 << bits) if signed and stored >> (bits - 1) else stored) * slope + intercept
        grey = round(255 * min(max((value - low) / (high - low), 0), 1))
        greys.append(255 - grey if inverse else grey)
    return greys


def _window(image: Dataset, slope: float, intercept: float, signed: bool, bits: int) -> tuple[float, float]:
    """Lowest and highest value shown: the first window of the file, else all values that occur."""
    centre, width = _first(image.get("WindowCenter")), _first(image.get("WindowWidth"))
    if centre is not None and width is not None and width >= 1:
        return centre - width / 2, centre + width / 2
    values = memoryview(image.PixelData[: bits // 8 * int(image.Rows) * int(image.Columns)])
    stored = values.cast(("b" if signed else "B") if bits == 8 else ("h" if signed else "H"))
    low, high = sorted((min(stored) * slope + intercept, max(stored) * slope + intercept))
    return low, max(high, low + 1)


def _first(value: object) -> float | None:
    """The first of one or several decimal strings."""
    if isinstance(value, str | int | float):
        return float(value)
    if isinstance(value, Sequence) and value:
        return float(value[0])
    return None
