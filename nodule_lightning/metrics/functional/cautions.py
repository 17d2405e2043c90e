"""Warnings about input that changes the score without an error, one sentence each."""

from collections.abc import Hashable

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.metrics.functional.scan_list import Located, ScanList
from nodule_lightning.structures import Candidates, Findings, RowsT

# Fewer scans than this may lack marks by chance, or because the detector is good.
FEW_SCANS = 5
MANY_WITHOUT_MARK = 0.1
# This many scans that all hold a nodule are hardly a random sample.
MANY_SCANS = 20


def cautions(
    candidates: Located[Candidates],
    nodules: Located[Findings],
    excluded: Located[Findings] | None,
    scans: ScanList,
    protocol: Protocol,
) -> tuple[str, ...]:
    """Describe how this comparison may differ from the intended one; `excluded` is None if there is no such list."""
    marked = _scans_of(candidates, scans)
    annotated = _scans_of(nodules, scans)
    sentences = [
        *_without_anything(scans, annotated),
        *_left_out("marks", candidates, scans),
        *_left_out("nodules", nodules, scans),
        *_repeated("marks", candidates),
        *_repeated("nodules", nodules),
        *_one_fold(nodules, annotated),
        *_coverage(marked, annotated),
    ]
    return (*sentences, *(_excluded(excluded, nodules, scans) if protocol is Protocol.LUNA16 else ()))


def _excluded(excluded: Located[Findings] | None, nodules: Located[Findings], scans: ScanList) -> list[str]:
    if excluded is None:
        return [
            "No list of excluded findings was given: marks on doubtful findings count as false positives."
            " On LUNA16 this costs about 0.10; give annotations_excluded.csv."
        ]
    if not len(excluded.table):
        return ["The list of excluded findings is empty: marks on doubtful findings count as false positives."]
    unlisted = sorted(set(excluded.unlisted_ids()), key=str)
    hint = _padding_hint(unlisted, scans)
    if (excluded.position < 0).all():
        return [
            f"None of the {len(excluded.table)} excluded findings is in a listed scan (they are in others, such as"
            f" {unlisted[0]}{hint}): marks on doubtful findings count as false positives."
        ]
    if hint:
        return [f"Excluded findings of {len(unlisted)} scans were left out (such as {unlisted[0]}{hint})."]
    same = int(np.isin(_place_keys(nodules), _place_keys(excluded)).sum())
    if 2 * same > len(nodules.table):
        return [
            f"{same} of the {len(nodules.table)} nodules are also in the list of excluded findings: was the same file"
            " given for both?"
        ]
    return []


def _place_keys(rows: Located[RowsT]) -> Float64[np.ndarray, "n"]:
    """Hash each row by scan and position, so that equal rows have equal keys; rows of unlisted scans are left out."""
    listed = rows.position >= 0
    centre = rows.table.rows.centre_xyz_mm[listed]
    keys: np.ndarray = rows.position[listed] * np.pi + centre @ np.array([1.0, np.e, np.sqrt(2.0)])
    return keys


def _scans_of(rows: Located[RowsT], scans: ScanList) -> Bool[np.ndarray, "scan"]:
    there = np.zeros(len(scans), dtype=bool)
    there[rows.position[rows.position >= 0]] = True
    return there


def _without_anything(scans: ScanList, annotated: Bool[np.ndarray, "scan"]) -> list[str]:
    if not len(scans):
        return ["The list of scans is empty: the score is 0 by convention."]
    if not annotated.any():
        return ["No listed scan holds a nodule: the score is 0 by convention."]
    return []


def _left_out(what: str, rows: Located[RowsT], scans: ScanList) -> list[str]:
    unknown = rows.unlisted_ids()
    if not unknown:
        return []
    ids = sorted(set(unknown), key=str)
    return [
        f"{len(unknown)} {what} of {len(ids)} scans that are not in the list of scans were left out"
        f" (such as {ids[0]}{_padding_hint(ids, scans)})."
    ]


def _padding_hint(unknown: list[Hashable], scans: ScanList) -> str:
    """Return a hint if an unknown id differs from a listed one only by leading zeros, else an empty string."""
    bare = {str(scan_id).lstrip("0"): scan_id for scan_id in scans.position}
    for scan_id in unknown:
        twin = bare.get(str(scan_id).lstrip("0"))
        if twin is not None:
            return f"; {scan_id} looks like {twin} in the list: write the ids with the same leading zeros"
    return ""


def _repeated(what: str, rows: Located[RowsT]) -> list[str]:
    """Warn of rows at the same position as another one in their scan."""
    listed = np.flatnonzero(rows.position >= 0)
    place = np.column_stack([rows.position, rows.table.rows.centre_xyz_mm])[listed]
    # Only the few rows with equal keys have to be compared in full.
    key = _place_keys(rows)
    order = np.argsort(key)
    twins = np.flatnonzero(key[order][1:] == key[order][:-1])
    shared = order[np.union1d(twins, twins + 1)]
    _, first, times = np.unique(place[shared], axis=0, return_index=True, return_counts=True)
    if not (times > 1).any():
        return []
    ids = rows.table.scan_id[listed[shared[first[times > 1]]]]
    return [
        f"{int((times - 1).sum())} {what} have the same position as another one in their scan (such as in scan"
        f" {min(ids.tolist(), key=str)}): each counts, as in the official script. Was a file appended to itself?"
    ]


def _one_fold(nodules: Located[Findings], annotated: Bool[np.ndarray, "scan"]) -> list[str]:
    inside = int(annotated.sum())
    outside = len(set(nodules.unlisted_ids()))
    if outside <= inside:
        return []
    return [
        f"{outside} of {inside + outside} annotated scans are not in the list of scans: this score is of a part, such"
        " as one fold, not of the whole set. LUNA16 pools all folds and scores them once."
    ]


def _coverage(marked: Bool[np.ndarray, "scan"], annotated: Bool[np.ndarray, "scan"]) -> list[str]:
    clear = int((~annotated).sum())
    silent = int((~marked).sum())
    if len(annotated) >= MANY_SCANS and not clear:
        return [
            f"Each of the {len(annotated)} listed scans holds a nodule: if the set has scans without one, their"
            " false positives are missing and the score is too high. Give the list of all scans."
        ]
    if annotated.any() and clear >= FEW_SCANS and marked.any() and not (marked & ~annotated).any():
        return [
            f"None of the {clear} scans without a nodule has a mark: if they were not searched, their false positives"
            " are missing and the score is too high. Search all listed scans."
        ]
    if silent >= FEW_SCANS and silent > MANY_WITHOUT_MARK * len(marked):
        return [
            f"{silent} of {len(marked)} scans have no mark at all, {int((annotated & ~marked).sum())} of them with"
            " nodules: if this is one fold, give the list of its scans."
        ]
    return []
