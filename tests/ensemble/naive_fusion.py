"""Reference implementation of the fusion rules, one mark at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nodule_lightning.ensemble.members import Member


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    scan_id: str
    falling: float
    x: float
    y: float
    z: float
    diameter: float
    owner: str

    @property
    def probability(self) -> float:
        return -self.falling

    @property
    def radius(self) -> float:
        return self.diameter / 2 if self.diameter > 0 else 5.0

    @property
    def place(self) -> tuple[float, float, float]:
        return self.x, self.y, self.z


def naive_fusion(
    members: Sequence[Member], weights: Sequence[float], agree: int | None = None
) -> list[tuple[str, float, float, float, float, float]]:
    weight = {member.name: value for member, value in zip(members, weights, strict=True) if value}
    chosen = [member for member in members if member.name in weight]
    fused = []
    for group in naive_groups(chosen):
        counting = [member.name for member in chosen if member.searched is None or group[0].scan_id in member.scan_ids]
        needed = 1 if agree is None else min(agree, len(counting)) if agree else len(counting) // 2 + 1
        if len(group) < needed:
            continue
        voices = [weight[mark.owner] * (mark.probability or 0.0) for mark in group]
        among = counting if agree is None else [mark.owner for mark in group]
        probability = math.fsum(voices) / math.fsum(weight[name] for name in among)
        if not any(voices):
            voices = [weight[mark.owner] for mark in group]
        centre = [mean(voices, [mark.place[axis] for mark in group]) for axis in range(3)]
        sized = [(voice, mark.diameter) for voice, mark in zip(voices, group, strict=True) if mark.diameter > 0]
        known = any(voice for voice, _ in sized)
        diameter = mean([voice for voice, _ in sized], [size for _, size in sized]) if known else -1.0
        fused.append((group[0].scan_id, centre[0], centre[1], centre[2], probability, diameter))
    return fused


def naive_groups(members: Sequence[Member]) -> list[list[Mark]]:
    left = sorted(
        Mark(str(scan_id), -p, centre[0], centre[1], centre[2], d, member.name)
        for member in members
        for scan_id, centre, p, d in zip(
            member.marks.scan_id,
            member.marks.rows.centre_xyz_mm.tolist(),
            member.marks.rows.probability.tolist(),
            member.marks.rows.diameter_mm.tolist(),
            strict=True,
        )
    )
    groups = []
    while left:
        leader = left.pop(0)
        group = [leader]
        for owner in sorted({mark.owner for mark in left} - {leader.owner}):
            near = [mark for mark in left if mark.owner == owner and may_be_one(leader, mark)]
            if near:
                taken = min(near, key=lambda mark: (math.dist(leader.place, mark.place), mark))
                left.remove(taken)
                group.append(taken)
        groups.append(group)
    return groups


def may_be_one(first: Mark, second: Mark) -> bool:
    close = math.dist(first.place, second.place) < min(first.radius, second.radius)
    return first.scan_id == second.scan_id and close


def mean(voices: Sequence[float], values: Sequence[float]) -> float:
    return math.fsum(voice * value for voice, value in zip(voices, values, strict=True)) / math.fsum(voices)
