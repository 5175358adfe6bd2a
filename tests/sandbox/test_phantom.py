"""The phantom study: the same bytes each time, valid CT images, and a body that can be recognised."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from mdg.model.identity import HpiO, Ihi
from mdg.sandbox.identifiers import EXAMPLE_IHI, made_up
from mdg.sandbox.phantom import INTERCEPT, SIZE, SPACING, draw, write_phantom

SLICES = 5


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_phantom(tmp_path / name, seed=seed, slices=SLICES)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert not set(digests(tmp_path / "a")) & set(digests(tmp_path / "c"))


def test_its_images_are_one_ct_series_of_one_patient(tmp_path: Path) -> None:
    total = write_phantom(tmp_path / "study", slices=SLICES)
    paths = sorted((tmp_path / "study").iterdir())
    assert total == sum(path.stat().st_size for path in paths)
    images = [dcmread(path) for path in paths]
    assert {image.SOPClassUID for image in images} == {CTImageStorage}
    assert {image.file_meta.TransferSyntaxUID for image in images} == {ExplicitVRLittleEndian}
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID", "IssuerOfPatientID"):
        assert len({getattr(image, name) for image in images}) == 1, name
    assert len({image.SOPInstanceUID for image in images}) == SLICES
    heights = [float(image.ImagePositionPatient[2]) for image in images]
    assert heights == sorted(set(heights))
    assert all(len(image.PixelData) == 2 * image.Rows * image.Columns for image in images)


def test_no_image_carries_an_ihi(tmp_path: Path) -> None:
    write_phantom(tmp_path / "study", slices=2)
    for path in (tmp_path / "study").iterdir():
        assert EXAMPLE_IHI.encode() not in path.read_bytes()
        assert b"800360" not in path.read_bytes()[:2000]


def test_its_tissues_are_where_a_radiologist_looks_for_them() -> None:
    *_, middle, _, _ = draw(1, SLICES)

    def hu(x: float, y: float) -> float:
        """The mean of a few pixels about a point in mm."""
        column, row = round(x / SPACING + SIZE / 2), round(y / SPACING + SIZE / 2)
        values = [
            int.from_bytes(middle[2 * i : 2 * i + 2], "little") + INTERCEPT
            for i in (r * SIZE + c for r in range(row - 2, row + 3) for c in range(column - 2, column + 3))
        ]
        return sum(values) / len(values)

    assert hu(-180, -180) < -990  # air beside the body
    assert -140 < hu(0, -107) < -50  # fat under the skin
    assert hu(70, -60) < -750  # left lung
    assert 0 < hu(40, -10) < 250  # heart
    assert hu(0, 62) > 200  # vertebra
    assert 60 < hu(-112, 34) < 180  # the largest sphere of the row, in the right lung


def test_made_up_identifiers_are_valid_and_repeatable() -> None:
    names = [f"patient {n}" for n in range(200)]
    made = [made_up(Ihi, name) for name in names]
    assert made == [made_up(Ihi, name) for name in names]
    assert len(set(made)) == len(names)
    assert all(Ihi.parse(ihi) == ihi and ihi.startswith("80036099") for ihi in made)
    assert HpiO.parse(made_up(HpiO, "clinic")).startswith("80036299")
