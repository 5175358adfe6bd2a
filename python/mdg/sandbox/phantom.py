"""A seeded CT of a chest that never was: the study of the demo, of development and of tests.

120 axial slices of 512 x 512, 16 bits allocated, about 63 MB, CT Image Storage (PS3.3 A.3) in Explicit VR Little
Endian: body outline with its layer of fat, ribs, spine, two lungs with vessels, heart, aorta, windpipe, couch, and a
row of spheres of falling size in the right lung at the middle slice. The same seed gives the same bytes anywhere.

Geometry is in millimetres in the patient's coordinates (PS3.3 C.7.6.2.1.1): x to the patient's left, y to the back, z
to the head. A slice is drawn in grey steps of 8 HU on a mode `L` image, softened as a scanner's point spread would, and
widened to 16-bit lanes of one big integer, in which tissue and noise are added at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from PIL import Image, ImageChops, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

PATIENT_ID = "DEMO-0001"
ISSUER = "DEMO"

SLICES = 120
SIZE = 512
SPACING = 0.75  # mm in the plane: 384 mm across
THICKNESS = 2.5  # mm between slices: 300 mm from waist to shoulders

STEP = 8  # HU of one grey step of the drawing
NOISE = 64  # HU from the lowest to the highest value of the noise
INTERCEPT = -1024 - NOISE // 2  # stored value 0 is air at the lowest noise

AIR, LUNG, FAT, WATER, MUSCLE, BLOOD, BONE, MARROW, SPHERE, COUCH = -1024, -840, -96, 0, 48, 176, 720, 280, 120, -600


_Disc = Callable[[float, float, float, float, int], None]


@dataclass(frozen=True, slots=True)
class Vessel:
    """A branch in one lung: leaves the hilum at (x, y, z) and runs along (dx, dy, dz), its radius falling to
    nothing."""

    start: tuple[float, float, float]
    along: tuple[float, float, float]
    radius: float


def write_phantom(
    folder: Path,
    *,
    seed: int = 1,
    slices: int = SLICES,
    patient_id: str = PATIENT_ID,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Writes the study into the new folder `folder`, one `.dcm` file for each slice; returns the bytes of pixel data
    and headers written. Another `seed` is another study of another `patient_id` if so named; fewer `slices` show the
    same body. `progress` is called with the bytes of pixel data so far and of all."""
    folder.mkdir(parents=True)
    total = 0
    pixels = draw(seed, slices)
    for number, frame in enumerate(pixels, start=1):
        path = folder / f"{number:04d}.dcm"
        _dataset(seed, slices, number, frame, patient_id).save_as(path, enforce_file_format=True)
        total += path.stat().st_size
        if progress is not None:
            progress(number * len(frame), slices * len(frame))
    return total


def draw(seed: int, slices: int = SLICES) -> Iterator[bytes]:
    """The pixel data of each slice from the feet upwards: 512 x 512 unsigned little-endian 16-bit values, where
    HU = value + `INTERCEPT`."""
    chance = random.Random(seed)  # noqa: S311 -- a picture, and it must be the same each time
    grain = Image.frombytes("L", (SIZE, SIZE), chance.randbytes(SIZE * SIZE)).filter(ImageFilter.GaussianBlur(0.6))
    grain = grain.point([value * NOISE // 256 for value in range(256)])
    vessels = [_vessel(chance, side) for side in (-1, 1) for _ in range(110)]
    zero = Image.new("L", (SIZE, SIZE))
    for number in range(slices):
        z = (number - slices // 2) * THICKNESS * SLICES / slices
        tissue = _slice(z, vessels).filter(ImageFilter.GaussianBlur(0.7))
        noise = ImageChops.offset(grain, chance.randrange(SIZE), chance.randrange(SIZE))
        # Two bands interleaved are 16-bit lanes; tissue * 8 + noise stays below 2^16, so no lane reaches the next.
        lanes = (int.from_bytes(Image.merge("LA", (band, zero)).tobytes(), "little") for band in (tissue, noise))
        yield (next(lanes) * STEP + next(lanes)).to_bytes(2 * SIZE * SIZE, "little")


def _slice(z: float, vessels: list[Vessel]) -> Image.Image:
    """The tissue at height `z`, in grey steps."""
    image = Image.new("L", (SIZE, SIZE), _grey(AIR))
    pen = ImageDraw.Draw(image)

    def disc(x: float, y: float, rx: float, ry: float, hu: int) -> None:
        if rx > 0 and ry > 0:
            middle = SIZE / 2
            box = [
                (x - rx) / SPACING + middle,
                (y - ry) / SPACING + middle,
                (x + rx) / SPACING + middle,
                (y + ry) / SPACING + middle,
            ]
            pen.ellipse(box, fill=_grey(hu))

    def ball(x: float, y: float, z0: float, r: float, hu: int, *, flat: float = 1.0, high: float = 1.0) -> None:
        """An ellipsoid about (x, y, z0): `r` across, `flat * r` front to back, `high * r` upwards."""
        inside = 1 - ((z - z0) / (high * r)) ** 2
        if inside > 0:
            disc(x, y, r * math.sqrt(inside), flat * r * math.sqrt(inside), hu)

    disc(0, 316, 260, 195, COUCH)
    disc(0, 321, 257, 195, AIR)
    wide = 158 + 12 * math.sin((z + 60) / 95)
    disc(0, 0, wide, 112, FAT)
    disc(0, 2, wide - 14, 101, MUSCLE)
    for side in (-1, 1):
        disc(side * 30, 88, 24, 12, MUSCLE)
        ball(side * 66, 2, 0, 62, LUNG, flat=1.24, high=2.15)
    disc(0, 6, 22, 74, MUSCLE)
    ball(26, -26, -38, 56, MUSCLE, flat=0.86, high=1.05)
    ball(30, -24, -40, 34, BLOOD, flat=0.8, high=1.1)
    ball(2, -30, -30, 24, BLOOD, flat=0.9, high=1.2)
    for vessel in vessels:
        _cross(vessel, z, disc)
    for number, radius in enumerate((11, 9, 7.5, 6, 4.5, 3)):
        ball(-112 + number * 18, 34, 0, radius, SPHERE)
    disc(20, 48, 12, 12, BLOOD)
    if z > 62:
        ball(6, 18, 62, 30, BLOOD, flat=0.8, high=0.5)
    if z > 10:
        disc(0, -2, 9, 9, MUSCLE)
        disc(0, -2, 8, 8, AIR)
    elif z > -30:
        for side in (-1, 1):
            x = side * (12 + (10 - z) * 0.35)
            disc(x, 2, 5.5, 5.5, MUSCLE)
            disc(x, 2, 4.5, 4.5, AIR)
    _spine(z, disc)
    _ribs(z, wide - 30, disc)
    return image


def _spine(z: float, disc: _Disc) -> None:
    """A vertebra each 24 mm with its disc, canal, arch and processes."""
    phase = (z + 200) % 24
    bone = phase < 18
    disc(0, 62, 19, 15, BONE if bone else WATER + 96)
    if bone:
        disc(0, 62, 17, 13, MARROW)
    disc(0, 84, 15, 11, BONE if phase < 12 else MUSCLE)
    disc(0, 83, 10, 8, WATER)
    if phase < 9:
        disc(0, 100, 3.5, 9, BONE)
        for side in (-1, 1):
            disc(side * 24, 84, 14, 4.5, BONE)


def _ribs(z: float, radius: float, disc: _Disc) -> None:
    """Each rib slants from the spine down to the front, so a slice cuts it once on each side; the breast bone closes
    the cage above the heart's tip."""
    for rib in range(-3, 11):
        turn = (rib * 38 - z - 120) / 115  # 0 at the spine, pi at the breast bone
        if not 0.22 < turn < 2.62:
            continue
        for side in (-1, 1):
            x, y = side * radius * math.sin(turn), 4 + 86 * math.cos(turn)
            for bend in (-0.05, 0.0, 0.05):
                dx, dy = side * radius * math.sin(turn + bend) - x, 86 * (math.cos(turn + bend) - math.cos(turn))
                disc(x + dx, y + dy, 6, 5, BONE)
            disc(x, y, 3.5, 3, MARROW)
    if z > -45:
        disc(0, -88, 17, 6, BONE)
        disc(0, -88, 14, 3.5, MARROW)


def _vessel(chance: random.Random, side: int) -> Vessel:
    """A branch from the hilum of one lung into it."""
    azimuth, height = chance.uniform(-1.25, 1.25), chance.uniform(-0.95, 0.95)
    reach = chance.uniform(40, 82)
    level = math.sqrt(1 - height * height)
    along = (side * reach * level * math.cos(azimuth), 0.95 * reach * level * math.sin(azimuth), 1.35 * reach * height)
    start = (side * chance.uniform(24, 34), chance.uniform(-8, 14), chance.uniform(-30, 34))
    return Vessel(start, along, chance.uniform(1.4, 4.2))


def _cross(vessel: Vessel, z: float, disc: _Disc) -> None:
    """Where a branch meets the slice, if it stays inside its lung there."""
    part = (z - vessel.start[2]) / vessel.along[2]
    if not 0 <= part <= 1:
        return
    x, y = (begin + part * run for begin, run in zip(vessel.start[:2], vessel.along[:2], strict=True))
    side = 1 if vessel.along[0] > 0 else -1
    if ((x - side * 66) / 60) ** 2 + ((y - 2) / 75) ** 2 + (z / 130) ** 2 < 1:
        radius = vessel.radius * (1 - 0.8 * part)
        disc(x, y, radius * 1.3, radius, MUSCLE)


def _grey(hu: int) -> int:
    return (hu - AIR) // STEP


def _uid(seed: int, name: str) -> str:
    """A UID of the UUID form (PS3.5 B.2), the same for the same seed."""
    return f"2.25.{uuid5(NAMESPACE_URL, f'urn:mdg:phantom:{seed}:{name}').int}"


def _dataset(seed: int, slices: int, number: int, frame: bytes, patient_id: str) -> FileDataset:
    """One CT image with the attributes that PS3.3 A.3.3 makes mandatory, empty where it allows that."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(_uid(seed, f"instance {number} of {slices}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.TimezoneOffsetFromUTC = "+1000"

    image.PatientName, image.PatientID, image.IssuerOfPatientID = "Phantom^Demo", patient_id, ISSUER
    image.PatientBirthDate, image.PatientSex = "", "O"

    image.StudyInstanceUID = _uid(seed, f"study of {slices}")
    image.StudyDate, image.StudyTime, image.StudyID = "20260501", "091233", "1"
    image.AccessionNumber, image.ReferringPhysicianName = "", ""
    image.StudyDescription = "CT Chest (phantom)"

    image.Modality, image.SeriesInstanceUID, image.SeriesNumber = "CT", _uid(seed, f"series of {slices}"), 1
    image.SeriesDescription, image.BodyPartExamined, image.PatientPosition = "Axial 2.5 mm", "CHEST", "HFS"
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = _uid(seed, "frame of reference"), ""
    image.Manufacturer, image.ManufacturerModelName = "mdg", "phantom"

    z = (number - 1 - slices // 2) * THICKNESS * SLICES / slices
    corner = -(SIZE - 1) / 2 * SPACING
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber, image.AcquisitionNumber = number, 1
    image.ContentDate, image.ContentTime, image.KVP = "20260501", "091233", "120"
    image.ImagePositionPatient = [corner, corner, z]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness, image.SliceLocation = [SPACING, SPACING], THICKNESS, z

    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = SIZE, SIZE
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = INTERCEPT, 1, "HU"
    image.WindowCenter, image.WindowWidth = -150, 1500
    image.PixelData = frame
    return image
