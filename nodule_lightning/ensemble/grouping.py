"""Grouping of the marks of several members that point to the same finding."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from nodule_lightning.ensemble.members import Pool, radius_mm

# The search is this much wider than the strict test after it, so that rounding cannot hide a mark from the test.
SEARCH_MARGIN = 1.0 + 1e-9


def group_marks(pool: Pool) -> Int64[np.ndarray, "mark"]:
    """Find for each mark the row of the mark that leads its group.

    The most probable mark leads and takes the nearest free mark of each other member; then the most probable of the
    remaining marks leads, and so on. Two marks can belong together if each lies strictly inside the other's radius.
    Two marks of the same member are never in one group.
    """
    leader, neighbour = _sorted_pairs(pool)
    marks = len(pool.member)
    start = np.searchsorted(leader, np.arange(marks))
    count = np.searchsorted(leader, np.arange(marks), side="right") - start
    group = np.arange(marks)
    free = np.ones(marks, dtype=bool)
    # Separate clusters are processed in parallel: each step takes the most probable free mark of every cluster.
    cluster = _clusters(marks, leader, neighbour)
    waiting = np.argsort(cluster, kind="stable")
    waiting = waiting[np.bincount(cluster, minlength=1)[cluster[waiting]] > 1]
    while len(waiting):
        leads = waiting[_firsts(cluster[waiting])]
        pair = _ranges(start[leads], count[leads])
        pair = pair[free[neighbour[pair]]]
        of_leader, of_member = leader[pair], pool.member[neighbour[pair]]
        taken = pair[_firsts(of_leader) | _firsts(of_member)]
        group[neighbour[taken]] = leader[taken]
        free[leads] = free[neighbour[taken]] = False
        waiting = waiting[free[waiting]]
    return group


def _sorted_pairs(pool: Pool) -> tuple[Int64[np.ndarray, "pair"], Int64[np.ndarray, "pair"]]:
    """Pair each mark with the less probable ones it could take, sorted by its row, by member, and nearest first."""
    centre, radius = pool.marks.rows.centre_xyz_mm, radius_mm(pool.marks.rows)
    found = [np.zeros((0, 2), dtype=np.int64), *_close_pairs(pool)]
    first, second = np.concatenate(found).T
    gap = centre[first] - centre[second]
    squared = gap[:, 0] ** 2 + gap[:, 1] ** 2 + gap[:, 2] ** 2
    reach = np.minimum(radius[first], radius[second])
    wanted = (squared < reach**2) & (pool.member[first] != pool.member[second])
    first, second, squared = first[wanted], second[wanted], squared[wanted]
    order = np.lexsort([second, squared, pool.member[second], first])
    return first[order], second[order]


def _close_pairs(pool: Pool) -> Iterator[Int64[np.ndarray, "pair 2"]]:
    """Yield the pairs of rows within the largest radius of their scan, the more probable mark first."""
    centre, radius = pool.marks.rows.centre_xyz_mm, radius_mm(pool.marks.rows)
    starts = np.searchsorted(pool.marks.scan_id, np.arange(len(pool.scan_ids) + 1))
    for scan in np.flatnonzero(np.diff(starts) > 1).tolist():
        rows = slice(int(starts[scan]), int(starts[scan + 1]))
        pairs = KDTree(centre[rows]).query_pairs(radius[rows].max() * SEARCH_MARGIN, output_type="ndarray")
        yield pairs.astype(np.int64) + rows.start


def _clusters(
    marks: int, first: Int64[np.ndarray, "pair"], second: Int64[np.ndarray, "pair"]
) -> Int64[np.ndarray, "mark"]:
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(marks, marks))
    return connected_components(graph, directed=False)[1].astype(np.int64) if marks else np.zeros(0, dtype=np.int64)


def _firsts(values: Int64[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Mark the positions where a value differs from the one before it."""
    return np.append(np.ones(min(len(values), 1), dtype=bool), values[1:] != values[:-1])


def _ranges(start: Int64[np.ndarray, "range"], count: Int64[np.ndarray, "range"]) -> Int64[np.ndarray, "n"]:
    """Concatenate the integers of all ranges."""
    step = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    joined: np.ndarray = np.repeat(start, count) + step
    return joined
