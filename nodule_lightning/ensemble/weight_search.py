"""Search for the member weights with the best FROC on scans that no member was trained on."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nodule_lightning.ensemble.fusion import fuse_groups
from nodule_lightning.ensemble.grouping import group_marks
from nodule_lightning.ensemble.members import Member, Pool
from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import RATES, Protocol
from nodule_lightning.metrics.functional.comparison import compare
from nodule_lightning.structures import Candidates, Findings, Table

# Fractions of the way from the current weights to one member alone, or to the weights without it.
STEPS = (0.5, 0.25, 0.125)
MOST_ROUNDS = 10
LEAST_GAIN = 1e-9


@dataclass(frozen=True, slots=True)
class Truth:
    """Annotations and rules that the members are scored against.

    Attributes:
        nodules: to be found.
        excluded: findings that count neither way; None if there is no such list.
        scan_ids: every scan that counts.
        protocol: rules to score by.
    """

    nodules: Table[Findings]
    excluded: Table[Findings] | None
    scan_ids: Sequence[Hashable]
    protocol: Protocol = Protocol.LUNA16

    def score(self, marks: Table[Candidates]) -> float:
        """Compute the mean sensitivity at the seven rates."""
        comparison, _ = compare(marks, self.nodules, self.excluded, self.scan_ids, self.protocol)
        return float(comparison.curve(comparison.every_nodule).at(RATES).mean())


@dataclass(frozen=True, slots=True)
class FoundWeights:
    """Result of a weight search.

    Attributes:
        weights: of each member, with sum 1.
        score: of the fusion with these weights.
        equal_score: of the fusion with equal weights.
        tried: number of weightings that were scored.
    """

    weights: tuple[float, ...]
    score: float
    equal_score: float
    tried: int


def search_weights(members: Sequence[Member], truth: Truth, agree: int | None = None, seed: int = 0) -> FoundWeights:
    """Maximise the exact FROC of the fusion by coordinate search from equal weights.

    Each step moves all weights part of the way towards one member alone or away from it, and is kept if the score
    rises. Rounds over all members, each in a new random order, repeat until no step helps; then the step size shrinks.
    The result is a local maximum and never scores below equal weights.

    Args:
        members: as for `fuse`, over the same scans.
        truth: of scans that no member was trained on.
        agree: as for `fuse`.
        seed: of the order.

    Raises:
        InputError: these scans hold no nodule.
    """
    order = sorted(range(len(members)), key=lambda place: members[place].name)
    trial = _Trial([members[place] for place in order], truth, agree)
    rng = np.random.default_rng(seed)
    weights = np.full(len(members), 1 / len(members))
    equal = best = trial.score(weights)
    for step in STEPS:
        for _ in range(MOST_ROUNDS):
            before = best
            for member in rng.permutation(len(members)).tolist():
                for other in _moves(weights, member, step):
                    score = trial.score(other)
                    if score > best + LEAST_GAIN:
                        weights, best = other, score
            if best == before:
                break
    found = np.empty(len(members))
    found[order] = weights
    return FoundWeights(tuple(found.tolist()), best, equal, len(trial.known))


class _Trial:
    """Cached scores of weightings; the marks are grouped once, since groups do not depend on weights above 0."""

    def __init__(self, members: Sequence[Member], truth: Truth, agree: int | None) -> None:
        if not set(truth.scan_ids) & set(truth.nodules.scan_id.tolist()):
            raise InputError(
                f"none of the {len(truth.scan_ids)} scans that all members have searched holds a nodule: weights"
                " cannot be searched on them",
                "annotations-missing",
            )
        self.truth, self.agree = truth, agree
        self.pool = Pool.of(members)
        self.leader = group_marks(self.pool)
        self.known: dict[bytes, float] = {}

    def score(self, weights: Float64[np.ndarray, "member"]) -> float:
        key = weights.tobytes()
        if key not in self.known:
            self.known[key] = self.truth.score(fuse_groups(self.pool, self.leader, weights, self.agree))
        return self.known[key]


def _moves(
    weights: Float64[np.ndarray, "member"], member: int, step: float
) -> tuple[Float64[np.ndarray, "member"], Float64[np.ndarray, "member"]]:
    alone = np.zeros(len(weights))
    alone[member] = 1.0
    towards = (1 - step) * weights + step * alone
    away = weights - step * weights * alone
    return towards / towards.sum(), away / away.sum()
