"""XML files as LIDC-IDRI's, with the marks that a test wants."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.ndimage import binary_dilation

from nodule_lightning.geometry import Grid
from nodule_lightning.io.lidc_xml import Readings, read_lidc_xml
from tests.chest import GRID, NODULE_XYZ_MM, ball, world_of

CT = '<LidcReadMessage xmlns="http://www.nih.gov">'
RADIOGRAPH = '<IdriReadMessage xmlns="http://www.nih.gov/idri"><ResponseHeader/></IdriReadMessage>'
BOMB = f"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "{"&a;" * 10}">]>{CT}&b;</LidcReadMessage>"""


def contour(z_mm: float, points: Sequence[Sequence[int]] | Int64[np.ndarray, "n 2"], inclusion: str = "TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    place = f"<imageZposition>{z_mm} </imageZposition><imageSOP_UID>1.2</imageSOP_UID>"
    return f"<roi>{place}<inclusion>{inclusion}</inclusion>{edges}</roi>"


def nodule(*contours: str, malignancy: int | None = None, texture: int = 5) -> str:
    rated = f"<texture>{texture}</texture><malignancy>{malignancy}</malignancy>"
    characteristics = "" if malignancy is None else f"<characteristics>{rated}</characteristics>"
    return f"<unblindedReadNodule><noduleID>1</noduleID>{characteristics}{''.join(contours)}</unblindedReadNodule>"


def non_nodule(z_mm: float, x: int, y: int) -> str:
    place = f"<imageZposition>{z_mm}</imageZposition><locus><xCoord>{x}</xCoord><yCoord>{y}</yCoord></locus>"
    return f"<nonNodule><nonNoduleID>2</nonNoduleID>{place}</nonNodule>"


def document(series: str, *readers: Sequence[str]) -> str:
    sessions = "".join(f"<readingSession>{''.join(marks)}</readingSession>" for marks in readers)
    header = f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{CT}{header}{sessions}</LidcReadMessage>'


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def parse(folder: Path, *readers: Sequence[str], series: str = "1.2.3") -> Readings:
    return read_lidc_xml(write(folder / "marks.xml", document(series, *readers)))


def square(low: int, high: int) -> list[tuple[int, int]]:
    """Give the closed contour around the pixels from `low` + 1 to `high` - 1 on both axes."""
    line = range(low, high)
    return [
        *((x, low) for x in line),
        *((high, y) for y in line),
        *((x, high) for x in reversed(range(low + 1, high + 1))),
        *((low, y) for y in reversed(range(low, high + 1))),
    ]


def outline(inside: Bool[np.ndarray, "z y x"], grid: Grid, **ratings: int) -> str:
    """Draw a convex nodule as a reader does: on the first pixels outside it, slice by slice."""
    contours = []
    for place in np.flatnonzero(inside.any(axis=(1, 2))):
        middle = np.argwhere(inside[place]).mean(axis=0)
        around = np.argwhere(binary_dilation(inside[place], np.ones((3, 3))) & ~inside[place])
        away = around - middle
        around = around[np.argsort(np.arctan2(away[:, 0], away[:, 1]))]
        z_mm = float(grid.to_world(np.array([[float(place), 0.0, 0.0]]))[0, 2])
        contours.append(contour(z_mm, around[:, ::-1]))
    return nodule(*contours, malignancy=ratings.get("malignancy", 3), texture=ratings.get("texture", 5))


def drawn_ball(shift_xyz_mm: Sequence[float] = (0, 0, 0), radius_mm: float = 9.0) -> Bool[np.ndarray, "z y x"]:
    """Give the voxels of a nodule of `chest.draw_chest`, or of a ball near it."""
    centre: Float64[np.ndarray, 3] = NODULE_XYZ_MM + np.array(shift_xyz_mm, dtype=np.float64)
    return ball(world_of(GRID), centre, np.full(3, radius_mm))
