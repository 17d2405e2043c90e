"""Fusion of grouped marks into one table of candidates."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from nodule_lightning.ensemble.grouping import group_marks
from nodule_lightning.ensemble.members import Member, Pool, best_first
from nodule_lightning.errors import InputError
from nodule_lightning.structures import UNKNOWN_DIAMETER_MM, Candidates, Table


def fuse(members: Sequence[Member], weights: Sequence[float], agree: int | None = None) -> Table[Candidates]:
    """Fuse the marks of several members.

    The order of the members does not matter, and a single member is returned unchanged.

    Args:
        members: with different names, and probabilities in [0, 1].
        weights: of each member, not negative; only their ratios matter. A weight of 0 leaves the member out.
        agree: None for the weighted fusion, in which a member that searched the scan but lacks the mark counts as 0.
            A number for consensus: a mark is kept only if this many members have it, or all members that searched the
            scan if these are fewer; its probability is the mean over the members that have it. 0 means more than half
            of the members that searched the scan.

    Raises:
        InputError: the number of weights is wrong, a weight is negative or all are zero, or `agree` exceeds the number
            of members with a weight.
    """
    shares = _require_weights(members, weights)
    order = sorted((place for place in range(len(members)) if shares[place]), key=lambda place: members[place].name)
    chosen = [members[place] for place in order]
    if agree is not None and not 0 <= agree <= len(chosen):
        raise InputError(
            f"agree={agree}, but there are {len(chosen)} members with a weight: at most all can agree",
            "argument-invalid",
        )
    pool = Pool.of(chosen)
    return fuse_groups(pool, group_marks(pool), shares[order], agree)


def fuse_groups(
    pool: Pool,
    leader: Int64[np.ndarray, "mark"],
    weights: Float64[np.ndarray, "member"],
    agree: int | None = None,
) -> Table[Candidates]:
    """Merge each group into one mark.

    Centre and diameter are means over the marks of the group, weighted by weight times probability; marks without a
    diameter do not enter the mean diameter.

    Args:
        pool: the marks.
        leader: for each mark the row of the mark that leads its group.
        weights: of the members, above 0.
        agree: as in `fuse`.
    """
    rows, scan = pool.marks.rows, pool.marks.scan_id
    leads = np.flatnonzero(leader == np.arange(len(leader)))
    group = np.searchsorted(leads, leader)
    weight = weights[pool.member]
    searching = (weights[:, None] * pool.searched).sum(axis=0)
    whole = searching[scan] if agree is None else _sums(group, weight)[group]
    probability = _sums(group, weight / whole * rows.probability)
    best = rows.probability[leader]
    # Relative to the leader, so that marks of probability 0 still have a mean.
    importance = weight * np.divide(rows.probability, best, out=np.ones(len(best)), where=best > 0)
    first = rows[leads]
    centre = np.stack([_means(group, axis, axis[leads], importance) for axis in rows.centre_xyz_mm.T], axis=1)
    known = rows.diameter_mm > 0
    near = np.where(known[leads], first.diameter_mm, UNKNOWN_DIAMETER_MM)
    diameter = _means(group, rows.diameter_mm, near, importance * known)
    sized = _sums(group, importance * known) > 0
    fused = Candidates(centre, np.minimum(probability, 1.0), np.where(sized, diameter, -1.0))
    kept = np.bincount(group) >= _needed(pool, agree)[scan[leads]]
    return _named(pool, scan[leads][kept], fused[kept])


def _require_weights(members: Sequence[Member], weights: Sequence[float]) -> Float64[np.ndarray, "member"]:
    values = np.array(weights, dtype=np.float64)
    if len(values) != len(members):
        raise InputError(
            f"there are {len(values)} weights for {len(members)} members; give one each", "argument-invalid"
        )
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise InputError(
            f"weights must be finite numbers of at least 0, and not all 0, but are {values.tolist()}",
            "argument-invalid",
        )
    # Only ratios matter; scaling keeps very large weights from overflowing.
    ratios: np.ndarray = values / values.max()
    return ratios


def _needed(pool: Pool, agree: int | None) -> Int64[np.ndarray, "scan"]:
    """Compute the number of marks that a group needs, for each scan."""
    there: np.ndarray = pool.searched.sum(axis=0)
    if agree is None:
        return np.ones_like(there)
    return np.minimum(agree, there) if agree else there // 2 + 1


def _sums(group: Int64[np.ndarray, "mark"], values: Float64[np.ndarray, "mark"]) -> Float64[np.ndarray, "group"]:
    # Summed in the order of the table, which does not depend on the order of the members.
    return np.bincount(group, values).astype(np.float64)


def _means(
    group: Int64[np.ndarray, "mark"],
    values: Float64[np.ndarray, "mark"],
    near: Float64[np.ndarray, "group"],
    importance: Float64[np.ndarray, "mark"],
) -> Float64[np.ndarray, "group"]:
    """Average the values of each group as offsets from `near`, so that a single mark keeps its value exactly."""
    whole = _sums(group, importance)[group]
    share = np.divide(importance, whole, out=np.zeros(len(whole)), where=whole > 0)
    means: np.ndarray = near + _sums(group, share * (values - near[group]))
    return means


def _named(pool: Pool, scan: Int64[np.ndarray, "n"], rows: Candidates) -> Table[Candidates]:
    order = best_first(scan, rows)
    return Table(pool.scan_ids[scan[order]], rows[order])
