"""Out-of-fold predictions, from which an ensemble learns calibrations and weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nodule_lightning.ensemble.calibration import Calibration, calibrate_members, judge
from nodule_lightning.ensemble.members import Member
from nodule_lightning.ensemble.submissions import find_submissions, read_members, require_probabilities
from nodule_lightning.ensemble.weight_search import FoundWeights, Truth, search_weights
from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.evaluate import require_protocol
from nodule_lightning.io.tables import read_findings, read_scan_ids
from nodule_lightning.metrics.functional import Protocol
from nodule_lightning.structures import Findings, Table


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Out-of-fold predictions of the members, with the annotations of their scans.

    Attributes:
        files: one for each member, in the same order.
        predictions: marks of each member in its out-of-fold scans.
        nodules: to be found.
        excluded: findings that count neither way; None if there is no such list.
        protocol: rules to score by.
    """

    files: tuple[Path, ...]
    predictions: tuple[Member, ...]
    nodules: Table[Findings]
    excluded: Table[Findings] | None
    protocol: Protocol

    @classmethod
    def read(
        cls,
        submissions: Sequence[Path],
        scans: Sequence[Path],
        annotations: Path,
        excluded: Path | None,
        protocol: Protocol,
    ) -> Self:
        """Read the predictions and the annotations.

        Args:
            submissions: as for `find_submissions`.
            scans: one list of scans for all predictions, or one for each; none if each has a `scans.csv` beside it.
            annotations: the nodules.
            excluded: the findings that count neither way; None if there is no such list.
            protocol: rules to score by.

        Raises:
            InputError: a file cannot be read, or the scans that a submission searched are not known.
        """
        require_protocol(protocol, excluded)
        files, left_out = find_submissions(submissions)
        if left_out:
            raise InputError(f"an out-of-fold prediction cannot be read: {left_out[0]}", "file-damaged")
        if len(scans) not in (0, 1, len(files)):
            raise InputError(
                f"oof_scans names {len(scans)} files for {len(files)} of oof: give one, or one for each",
                "argument-invalid",
            )
        lists = [read_scan_ids(path) for path in (list(scans) * len(files) if len(scans) == 1 else scans)]
        predictions = tuple(_listed(files, read_members(files), lists))
        doubtful = None if excluded is None else read_findings(excluded, sized=False)
        return cls(tuple(files), predictions, read_findings(annotations), doubtful, protocol)

    def require_apart(self, members: Sequence[Member]) -> None:
        """Refuse to learn from scans that are to be fused, since their scores would be too high.

        Raises:
            InputError: the numbers of predictions and members differ, or they have a scan in common.
        """
        if len(self.predictions) != len(members):
            raise InputError(
                f"oof names {len(self.predictions)} predictions for {len(members)} members: give one of each member, in"
                " the same order",
                "argument-invalid",
            )
        fused = frozenset[str]().union(*(member.scan_ids for member in members))
        for file, prediction in zip(self.files, self.predictions, strict=True):
            if common := sorted(prediction.scan_ids & fused):
                raise InputError(
                    f"{file} holds scan {common[0]}, which is to be fused ({len(common)} such): probabilities and"
                    " weights must be learned from other scans, the validation scans of each run for example",
                    "split-invalid",
                )

    def cautions(self) -> list[str]:
        """Warn of input that changes the calibration without an error."""
        if self.protocol is Protocol.TIANCHI or (self.excluded is not None and len(self.excluded)):
            return []
        return ["No excluded findings were given: out-of-fold marks on them count as wrong although they are not."]

    def calibrations(self) -> list[Calibration]:
        """Fit a calibration for each member.

        Raises:
            InputError: all marks of a file are correct or all are wrong; the message names the file.
        """
        return [self._calibration(file, member) for file, member in zip(self.files, self.predictions, strict=True)]

    def weights(self, calibrations: Sequence[Calibration] | None, agree: int | None, seed: int) -> FoundWeights:
        """Search the weights of the members on the scans that all of them have searched.

        Raises:
            InputError: there is no such scan, or none with a nodule.
        """
        common = sorted(frozenset.intersection(*(member.scan_ids for member in self.predictions)))
        if not common:
            raise InputError(
                "no scan was searched by all out-of-fold predictions, and weights can be compared on such scans only;"
                " search the same scans with each, or leave weights=search out",
                "split-invalid",
            )
        members = [member.within(common) for member in self.predictions]
        if calibrations is None:
            require_probabilities(self.files, members)
        else:
            members = calibrate_members(members, calibrations)
        return search_weights(members, Truth(self.nodules, self.excluded, common, self.protocol), agree, seed)

    def _calibration(self, file: Path, member: Member) -> Calibration:
        score, right = judge(member.marks, self.nodules, self.excluded, sorted(member.scan_ids))
        try:
            return Calibration.fit(score, right)
        except InputError as error:
            raise InputError(f"{file}: {error}", error.key) from None


def _listed(files: Sequence[Path], members: Sequence[Member], lists: Sequence[Sequence[str]]) -> Iterator[Member]:
    for place, (file, member) in enumerate(zip(files, members, strict=True)):
        if lists:
            yield member.within(lists[place])
        elif member.searched is None:
            raise InputError(
                f"which scans {file} has searched is not known, and a scan without a mark counts too: give"
                " oof_scans=FILE",
                "argument-missing",
            )
        else:
            yield member.within(member.scan_ids)
