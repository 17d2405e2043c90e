"""The score as pure functions over numpy arrays: matching of marks, FROC curve, confidence intervals."""

from nodule_lightning.metrics.functional.curve import RATES, Curve
from nodule_lightning.metrics.functional.froc import froc, score
from nodule_lightning.metrics.functional.matching import Matching, match
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.metrics.functional.result import Counts, FrocResult, OperatingPoint
from nodule_lightning.metrics.functional.sizes import SizeBin

__all__ = [
    "RATES",
    "Counts",
    "Curve",
    "FrocResult",
    "Matching",
    "OperatingPoint",
    "Protocol",
    "SizeBin",
    "froc",
    "match",
    "score",
]
