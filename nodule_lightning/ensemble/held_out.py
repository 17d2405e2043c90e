"""What an ensemble learns from: its members' marks in scans that they have not learnt from, and that are not fused."""

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
    """Out-of-fold predictions of each member.

    Attributes:
        files: one for each member, in the same order.
        predictions: what they hold, in the scans of each.
        nodules: what was to be found.
        excluded: findings that count neither way; None if there is no such list.
        protocol: whose rules hold.
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
        """Read the predictions and what was to be found.

        Args:
            submissions: as for `find_submissions`.
            scans: a list of scans for all, or one for each; none where each lies beside its `scans.csv`.
            annotations: the nodules.
            excluded: the findings that count neither way.
            protocol: whose rules hold.

        Raises:
            InputError: a file that cannot be read, or a submission of which it is not known what it searched.
        """
        require_protocol(protocol, excluded)
        files, left_out = find_submissions(submissions)
        if left_out:
            raise InputError(f"an out-of-fold prediction cannot be read: {left_out[0]}")
        if len(scans) not in (0, 1, len(files)):
            raise InputError(f"oof_scans names {len(scans)} files for {len(files)} of oof: give one, or one for each")
        lists = [read_scan_ids(path) for path in (list(scans) * len(files) if len(scans) == 1 else scans)]
        predictions = tuple(_listed(files, read_members(files), lists))
        doubtful = None if excluded is None else read_findings(excluded, sized=False)
        return cls(tuple(files), predictions, read_findings(annotations), doubtful, protocol)

    def require_apart(self, members: Sequence[Member]) -> None:
        """Refuse to learn from scans that are to be fused: the score there would be too good.

        Raises:
            InputError: there are not as many predictions as members, or they have a scan in common.
        """
        if len(self.predictions) != len(members):
            raise InputError(
                f"oof names {len(self.predictions)} predictions for {len(members)} members: give one of each member, in"
                " the same order"
            )
        fused = frozenset[str]().union(*(member.scan_ids for member in members))
        for file, prediction in zip(self.files, self.predictions, strict=True):
            if common := sorted(prediction.scan_ids & fused):
                raise InputError(
                    f"{file} holds scan {common[0]}, which is to be fused ({len(common)} such): probabilities and"
                    " weights must be learnt from other scans, the validation scans of each run for example"
                )

    def cautions(self) -> list[str]:
        """Say what would change the calibration silently."""
        if self.protocol is Protocol.TIANCHI or (self.excluded is not None and len(self.excluded)):
            return []
        return ["No excluded findings were given: out-of-fold marks on them count as wrong, which they are not."]

    def calibrations(self) -> list[Calibration]:
        """Fit a calibration for each member.

        Raises:
            InputError: there is nothing to learn from in one of the files; names it.
        """
        return [self._calibration(file, member) for file, member in zip(self.files, self.predictions, strict=True)]

    def weights(self, calibrations: Sequence[Calibration] | None, agree: int | None, seed: int) -> FoundWeights:
        """Search weights on the scans that all have searched.

        Raises:
            InputError: there is no such scan, or none with a nodule.
        """
        common = sorted(frozenset.intersection(*(member.scan_ids for member in self.predictions)))
        if not common:
            raise InputError(
                "no scan was searched by all out-of-fold predictions, and weights can be compared on such scans only;"
                " search the same scans with each, or leave weights=search out"
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
            raise InputError(f"{file}: {error}") from None


def _listed(files: Sequence[Path], members: Sequence[Member], lists: Sequence[Sequence[str]]) -> Iterator[Member]:
    for place, (file, member) in enumerate(zip(files, members, strict=True)):
        if lists:
            yield member.within(lists[place])
        elif member.searched is None:
            raise InputError(
                f"which scans {file} has searched is not known, and a scan without a mark counts too: give"
                " oof_scans=FILE"
            )
        else:
            yield member.within(member.scan_ids)
