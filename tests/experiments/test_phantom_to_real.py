"""The score of the search for planted nodules."""

import numpy as np

from experiments.phantom_to_real.score import sensitivities
from nodule_lightning.structures import Candidates, Findings, Table


def findings(rows: list[tuple[str, float, float]]) -> Table[Findings]:
    """Give findings on the x axis: scan, place and diameter."""
    ids, x, diameter = zip(*rows, strict=True)
    return Table(np.array(ids), Findings(np.array([[place, 0.0, 0.0] for place in x]), np.array(diameter, dtype=float)))


def marks(rows: list[tuple[str, float, float]]) -> Table[Candidates]:
    """Give marks on the x axis: scan, place and probability."""
    ids, x, probability = zip(*rows, strict=True)
    centres = np.array([[place, 0.0, 0.0] for place in x])
    return Table(np.array(ids), Candidates(centres, np.array(probability), np.full(len(ids), -1.0)))


def test_sizes_and_rates_are_told_apart_and_own_nodules_count_neither_way() -> None:
    planted = findings([("a-planted-0-0", 0, 4), ("a-planted-0-0", 50, 6), ("a-planted-0-1", 0, 6), ("b", 0, 6)])
    own = findings([("a-planted-0-0", 100, 20)])
    found = marks(
        [
            ("a-planted-0-0", 100, 0.99),
            ("a-planted-0-0", 50, 0.9),
            *(("a-planted-0-1", 200 + place, 0.8) for place in range(4)),
            ("a-planted-0-1", 0, 0.5),
            ("a-planted-0-0", 0, 0.4),
            ("b", 300, 1.0),
        ]
    )
    given = sensitivities(found, planted, own, ["a-planted-0-0", "a-planted-0-1"])
    assert given == {"4 mm (1)": [0.0, 1.0], "6 mm (2)": [0.5, 1.0], "5 mm and over (2)": [0.5, 1.0]}
