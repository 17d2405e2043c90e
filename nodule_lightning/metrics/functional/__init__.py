"""The score as pure functions over numpy arrays: which marks hit, the FROC curve, and how sure it is."""

from nodule_lightning.metrics.functional.curve import RATES, Curve
from nodule_lightning.metrics.functional.froc import Counts, FrocResult, SizeBin, froc, score
from nodule_lightning.metrics.functional.matching import Matching, match

__all__ = ["RATES", "Counts", "Curve", "FrocResult", "Matching", "SizeBin", "froc", "match", "score"]
