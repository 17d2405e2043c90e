"""Fusion of several submissions into one file, with a record of its members."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import fsum
from pathlib import Path
from typing import Any

from nodule_lightning.ensemble.calibration import calibrate_members
from nodule_lightning.ensemble.fusion import fuse
from nodule_lightning.ensemble.held_out import HeldOut
from nodule_lightning.ensemble.members import Member
from nodule_lightning.ensemble.submissions import find_submissions, read_members, require_probabilities
from nodule_lightning.ensemble.weight_search import FoundWeights
from nodule_lightning.errors import InputError
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.run_folder import PREDICTION, SEARCHED, SUBMISSION
from nodule_lightning.io.tables import write_candidates, write_scan_ids
from nodule_lightning.structures import Candidates, Table


@dataclass(frozen=True, slots=True)
class Share:
    """Contribution of one member.

    Attributes:
        member: its name.
        weight: of its probabilities; the weights of all members sum to 1.
        marks: number of its marks.
        scans: number of scans it searched; None if that is not known.
        out_of_fold: name of the prediction used for its calibration or weight, if any.
    """

    member: str
    weight: float
    marks: int
    scans: int | None
    out_of_fold: str | None


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Result of a fusion.

    Attributes:
        shares: of each member, sorted by name.
        agree: number of members that had to agree; 0 for more than half, None for the weighted fusion.
        calibrated: whether the probabilities were calibrated.
        search: result of the weight search, if there was one.
        marks: number of fused marks.
        scans: number of scans.
        remarks: notes for the user, one sentence each.
    """

    shares: tuple[Share, ...]
    agree: int | None
    calibrated: bool
    search: FoundWeights | None
    marks: int
    scans: int
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Describe the fusion in plain values, for JSON."""
        found = self.search
        scores = None if found is None else {"found": found.score, "equal": found.equal_score, "tried": found.tried}
        return {
            "method": "weighted" if self.agree is None else "consensus",
            "agree": "more than half" if self.agree == 0 else self.agree,
            "calibrated": self.calibrated,
            "members": [asdict(share) for share in self.shares],
            "out_of_fold_froc_of_weights": scores,
            "marks": self.marks,
            "scans": self.scans,
            "remarks": list(self.remarks),
        }


def fuse_submissions(
    submissions: Sequence[Path],
    output: Path,
    *,
    weights: Sequence[float] | Path | None = None,
    agree: int | None = None,
    held_out: HeldOut | None = None,
    calibrated: bool = False,
    search: bool = False,
    seed: int = 0,
) -> Ensemble:
    """Fuse submissions and write the result, with its members and weights in a JSON file of the same name.

    A later fusion can reuse the weights in the JSON file. If the output is called `submission.csv` and every member's
    scans are known, `scans.csv` is written beside it, as in a folder that `nodule-predict` writes.

    Args:
        submissions: the members, as for `find_submissions`.
        output: the csv file to write.
        weights: one for each member in their order, or the JSON file of an earlier fusion; None for equal weights.
        agree: as for `fuse`.
        held_out: out-of-fold predictions; needed to calibrate and to search weights.
        calibrated: calibrate the probabilities.
        search: search the weights.
        seed: of the search.

    Raises:
        InputError: a file cannot be read or written, the folder holds the record of another submission, weights or
            out-of-fold predictions do not fit the members, or a scan to be fused is among the out-of-fold scans.
    """
    files, left_out = find_submissions(submissions)
    _require_free(output, [*files, *(held_out.files if held_out else ())], submissions)
    members = read_members(files)
    _require_own_folder(output, members)
    if held_out:
        held_out.require_apart(members)
    calibrations = held_out.calibrations() if held_out and calibrated else None
    if calibrations is None:
        require_probabilities(files, members)
    else:
        members = calibrate_members(members, calibrations)
    found = held_out.weights(calibrations, agree, seed) if held_out and search else None
    chosen = found.weights if found else _read_weights(weights, members, calibrated)
    fused = fuse(members, chosen, agree)
    remarks = [*sorted(left_out), *(held_out.cautions() if held_out else ()), *_remarks(members)]
    ensemble = Ensemble(
        tuple(_shares(members, chosen, held_out)),
        agree,
        calibrated,
        found,
        len(fused),
        len(_every_scan(members)),
        tuple(remarks),
    )
    _write(ensemble, fused, members, output)
    return ensemble


def _write(ensemble: Ensemble, fused: Table[Candidates], members: Sequence[Member], output: Path) -> None:
    text = json.dumps(ensemble.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_candidates(output, fused, sized=bool((fused.rows.diameter_mm > 0).any()))
    if output.name == SUBMISSION and _are_scans_known(members):
        write_scan_ids(output.with_name(SEARCHED), sorted(_every_scan(members)))
    write_whole(output.with_suffix(".json"), text.encode())


def _shares(members: Sequence[Member], weights: Sequence[float], held_out: HeldOut | None) -> list[Share]:
    """Describe the members sorted by name, so that the output does not depend on their order."""
    oof = [None] * len(members) if held_out is None else [member.name for member in held_out.predictions]
    shares = [
        Share(member.name, weight / fsum(weights), len(member.marks), _scans(member), name)
        for member, weight, name in zip(members, weights, oof, strict=True)
    ]
    return sorted(shares, key=lambda share: share.member)


def _require_free(output: Path, read: Sequence[Path], given: Sequence[Path]) -> None:
    """Refuse an output that is read as an input now, or would be the next time."""
    taken = {file.resolve() for file in read}
    if not taken.isdisjoint({output.resolve(), output.with_suffix(".json").resolve()}):
        raise InputError(f"output={output} is one of the members; choose another file", "output-refused")
    inside = [path for path in given if path.is_dir() and path.resolve() in output.resolve().parents]
    if output.name == SUBMISSION and inside:
        raise InputError(
            f"output={output} lies under {inside[0]} and would be a member itself the next time; choose another folder",
            "output-refused",
        )


def _require_own_folder(output: Path, members: Sequence[Member]) -> None:
    """Refuse a folder with the record of another submission, which would seem to describe this one."""
    records = [PREDICTION] if _are_scans_known(members) else [SEARCHED, PREDICTION]
    there = [name for name in records if output.with_name(name).exists()]
    if output.name == SUBMISSION and there:
        raise InputError(
            f"beside output={output} lies {there[0]}, which describes another submission; choose another folder",
            "output-refused",
        )


def _read_weights(weights: Sequence[float] | Path | None, members: Sequence[Member], calibrated: bool) -> list[float]:
    if weights is None:
        return [1.0] * len(members)
    if not isinstance(weights, Path):
        return [float(weight) for weight in weights]
    try:
        values = json.loads(weights.read_text(encoding="utf-8"))
        known = {str(share["member"]): float(share["weight"]) for share in values["members"]}
        was_calibrated = values["calibrated"]
    except FileNotFoundError:
        raise InputError(
            f"weights={weights} does not exist; give numbers [0.5,0.5], search, or a file", "file-missing"
        ) from None
    except OSError as error:
        raise InputError(f"weights={weights} cannot be read: {error.strerror}", "file-unreadable") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"weights={weights} holds no weights; give the JSON file that nodule-ensemble wrote", "file-foreign"
        ) from None
    if was_calibrated is not calibrated:
        raise InputError(
            f"weights={weights} were made for {'calibrated' if was_calibrated else 'uncalibrated'} probabilities; give"
            f" calibrate={str(was_calibrated).lower()}",
            "argument-conflict",
        )
    if {member.name for member in members} != set(known):
        there, wanted = ", ".join(sorted(known)), ", ".join(sorted(member.name for member in members))
        raise InputError(f"weights={weights} are for {there}, but the members are {wanted}", "argument-conflict")
    return [known[member.name] for member in members]


def _scans(member: Member) -> int | None:
    return None if member.searched is None else len(member.scan_ids)


def _are_scans_known(members: Sequence[Member]) -> bool:
    return all(member.searched is not None for member in members) and bool(_every_scan(members))


def _every_scan(members: Sequence[Member]) -> frozenset[str]:
    return frozenset[str]().union(*(member.scan_ids for member in members))


def _remarks(members: Sequence[Member]) -> list[str]:
    """Note where members differ in their scans, since that changes the meaning of a missing mark."""
    everything = _every_scan(members)
    remarks = []
    for member in sorted(members, key=lambda member: member.name):
        if not (lacking := everything - member.scan_ids):
            continue
        what = (
            "has no mark there, and no list of its scans is known: it counts as having found nothing"
            if member.searched is None
            else "did not search them and is left out of the mean there"
        )
        remarks.append(f"{member.name}: {len(lacking)} scans, such as {min(lacking)}; it {what}.")
    return remarks
