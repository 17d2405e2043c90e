"""Candidates as files for other programs: points of grand-challenge.org and markups of 3D Slicer, one file per scan.

Both hold world coordinates in mm (LPS), as the csv files do, so the points fit the original scan.
"""

import json
from typing import Any, Final

from nodule_lightning.structures import Candidates

_SLICER_SCHEMA: Final = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def point_marks(candidates: Candidates) -> bytes:
    """Format candidates as "Multiple points", an output type of algorithms on grand-challenge.org.

    The format has no field for a diameter, so it is part of each point's name. Source: `MPOI` in
    `components/schemas.py` of comic/grand-challenge.org, which forbids other keys than these.

    Args:
        candidates: the candidates of one scan, in the order of the file.
    """
    points = [
        {"name": _size(diameter_mm), "type": "Point", "point": place, "probability": probability}
        for place, probability, diameter_mm in _rows(candidates)
    ]
    return _json(
        {
            "name": "lung nodules",
            "type": "Multiple points",
            "points": points,
            "version": {"major": 1, "minor": 0},
        }
    )


def slicer_markups(candidates: Candidates) -> bytes:
    """Format candidates as a point list of 3D Slicer, labelled with their probabilities.

    Source: `markups-schema-v1.0.3.json` of Slicer/Slicer. Slicer converts LPS to its own RAS on reading. Versions of
    2022 treat a point without `positionStatus` as undefined.

    Args:
        candidates: the candidates of one scan, in the order of the file.
    """
    points = [
        {
            "id": str(rank),
            "label": f"{probability:.3f}",
            "description": f"rank {rank}, {_size(diameter_mm)}",
            "position": place,
            "selected": True,
            "locked": True,
            "visibility": True,
            "positionStatus": "defined",
        }
        for rank, (place, probability, diameter_mm) in enumerate(_rows(candidates), start=1)
    ]
    markup = {
        "type": "Fiducial",
        "name": "nodule candidates",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "controlPoints": points,
        "display": {"visibility": True, "pointLabelsVisibility": True},
    }
    return _json({"@schema": _SLICER_SCHEMA, "markups": [markup]})


def _rows(candidates: Candidates) -> list[tuple[list[float], float, float]]:
    columns = (candidates.centre_xyz_mm, candidates.probability, candidates.diameter_mm)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _size(diameter_mm: float) -> str:
    return f"{diameter_mm:.1f} mm" if diameter_mm > 0 else "unknown size"


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
