"""What other programs open: the point marks of grand-challenge.org and the markups of 3D Slicer, one file a scan.

Both hold world millimetres in LPS, as the csv files do, so that a mark lies at its place in the original scan.
"""

import json
from typing import Any, Final

from nodule_lightning.structures import Candidates

_SLICER_SCHEMA: Final = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def point_marks(candidates: Candidates) -> bytes:
    """Lay candidates out as "Multiple points", the answer of an algorithm on grand-challenge.org.

    The file knows no diameter: it stands in each point's name. Source: `MPOI` in `components/schemas.py` of
    comic/grand-challenge.org, which forbids any key that is not here.

    Args:
        candidates: of one scan, in the order in which they are to stand.
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
    """Lay candidates out as a point list of 3D Slicer, labelled with their probabilities.

    Source: `markups-schema-v1.0.3.json` of Slicer/Slicer. Slicer turns LPS into its own RAS while it reads. Versions
    of 2022 take a point for undefined that does not say the contrary.

    Args:
        candidates: of one scan, in the order in which they are to stand.
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
