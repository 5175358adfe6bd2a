"""The picture of the demo: stored values through rescale and window, as PS3.3 C.11.2.1.2 draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset

from mdg.cli.picture import middle_of, write_png
from mdg.errors import Unsupported


def drawn(image: FileDataset, folder: Path) -> np.ndarray:
    image.save_as(folder / "image.dcm")
    write_png(folder / "image.dcm", folder / "image.png")
    with Image.open(folder / "image.png") as png:
        return np.asarray(png).astype(int)


def expected(image: FileDataset, stored: np.ndarray) -> np.ndarray:
    """The same by numpy, independently: window of the file, linear between its ends."""
    values = stored * float(image.RescaleSlope) + float(image.RescaleIntercept)
    low = float(image.WindowCenter) - float(image.WindowWidth) / 2
    return np.rint(255 * np.clip((values - low) / float(image.WindowWidth), 0, 1)).astype(int)


@pytest.fixture
def slice_(study: Path) -> FileDataset:
    return dcmread(study / "0002.dcm")


def test_unsigned_values_are_drawn_through_the_window(slice_: FileDataset, tmp_path: Path) -> None:
    assert np.array_equal(drawn(slice_, tmp_path), expected(slice_, slice_.pixel_array.astype(int)))


def test_monochrome1_is_drawn_inverse(slice_: FileDataset, tmp_path: Path) -> None:
    upright = expected(slice_, slice_.pixel_array.astype(int))
    slice_.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(drawn(slice_, tmp_path), 255 - upright)


def test_signed_values_keep_their_sign(slice_: FileDataset, tmp_path: Path) -> None:
    signed = slice_.pixel_array.astype(np.int16) - 1000
    slice_.PixelRepresentation, slice_.BitsStored, slice_.HighBit = 1, 16, 15
    slice_.RescaleIntercept = -56
    slice_.PixelData = signed.astype("<i2").tobytes()
    assert np.array_equal(drawn(slice_, tmp_path), expected(slice_, signed.astype(int)))


def test_without_a_window_all_values_are_shown(slice_: FileDataset, tmp_path: Path) -> None:
    del slice_.WindowCenter, slice_.WindowWidth
    grey = drawn(slice_, tmp_path)
    assert (grey.min(), grey.max()) == (0, 255)


def test_eight_bits_and_colour_are_drawn_too(slice_: FileDataset, tmp_path: Path) -> None:
    colour = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    slice_.Rows, slice_.Columns, slice_.SamplesPerPixel, slice_.PlanarConfiguration = 4, 6, 3, 0
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 8, 8, 7
    slice_.PhotometricInterpretation, slice_.PixelData = "RGB", colour.tobytes()
    assert np.array_equal(drawn(slice_, tmp_path), colour)


def test_the_middle_is_that_of_the_series_by_instance_number(study: Path) -> None:
    assert dcmread(middle_of(study)).InstanceNumber == 3


def test_a_folder_without_images_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no image"):
        middle_of(tmp_path)
