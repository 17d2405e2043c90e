"""Branching trees that fill a lung: arteries, veins and airways."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.phantom.canvas import Canvas, Point, paint_segment

Points = Float64[np.ndarray, "n 3"]


@dataclass(frozen=True, slots=True)
class Tree:
    """A branching tube as straight, tapering pieces.

    Attributes:
        start_xyz_mm: start of each piece.
        stop_xyz_mm: end of each piece.
        radius_mm: radius of each piece at its start and at its end.
    """

    start_xyz_mm: Float64[np.ndarray, "n 3"]
    stop_xyz_mm: Float64[np.ndarray, "n 3"]
    radius_mm: Float64[np.ndarray, "n 2"]

    def __len__(self) -> int:
        return len(self.radius_mm)

    def __getitem__(self, pieces: Bool[np.ndarray, "n"]) -> Self:
        return type(self)(self.start_xyz_mm[pieces], self.stop_xyz_mm[pieces], self.radius_mm[pieces])

    @classmethod
    def join(cls, trees: list[Self]) -> Self:
        """Join the pieces of several trees in one."""
        return cls(
            np.concatenate([np.zeros((0, 3)), *(tree.start_xyz_mm for tree in trees)]),
            np.concatenate([np.zeros((0, 3)), *(tree.stop_xyz_mm for tree in trees)]),
            np.concatenate([np.zeros((0, 2)), *(tree.radius_mm for tree in trees)]),
        )

    def clearance_mm(self, points_xyz_mm: Points) -> Float64[np.ndarray, "n"]:
        """Return the distance of each point to the nearest wall; negative inside a tube."""
        if len(self) == 0:
            return np.full(len(points_xyz_mm), np.inf)
        axis = self.stop_xyz_mm - self.start_xyz_mm
        length2 = np.maximum((axis**2).sum(1), 1e-9)
        nearest = np.empty(len(points_xyz_mm))
        for index, point in enumerate(points_xyz_mm):
            offset = point - self.start_xyz_mm
            along = np.clip((offset * axis).sum(1) / length2, 0, 1)
            distance = np.linalg.norm(offset - along[:, None] * axis, axis=1)
            nearest[index] = (distance - self.radius_mm.mean(1)).min()
        return nearest

    def beside(self, radius_mm: float, attempts: int, generator: np.random.Generator) -> Points:
        """Draw centres at which a nodule of that radius touches a tube."""
        pieces = generator.choice(len(self), attempts)
        share = generator.random((attempts, 1))
        start, stop = self.start_xyz_mm[pieces], self.stop_xyz_mm[pieces]
        across = np.cross(stop - start, generator.standard_normal((attempts, 3)))
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
        reach = self.radius_mm[pieces].mean(1, keepdims=True) + 0.6 * radius_mm
        beside: Points = start + share * (stop - start) + reach * across
        return beside


def grow_tree(
    root_xyz_mm: Point,
    ends_xyz_mm: Points,
    tip_radius_mm: float,
    generator: np.random.Generator,
    root_radius_mm: float | None = None,
) -> Tree:
    """Grow a tree from its root to all of its ends.

    The ends are repeatedly split in two across their widest direction. Each branch grows towards the centre of its
    half. Its radius follows Murray's law from the number of ends that it feeds (exponent 2.7, as measured in lungs).

    Args:
        root_xyz_mm: where the tree begins.
        ends_xyz_mm: the points to reach.
        tip_radius_mm: radius of a branch that feeds one end.
        generator: random generator.
        root_radius_mm: radius at the root, from which the first piece tapers; None follows Murray's law.
    """
    starts, stops, radii = [], [], []
    first_mm = tip_radius_mm * len(ends_xyz_mm) ** (1 / 2.7) if root_radius_mm is None else root_radius_mm
    pending = [(root_xyz_mm, ends_xyz_mm, first_mm)]
    while pending:
        start, ends, radius_before = pending.pop()
        count = len(ends)
        if count == 0:
            continue
        radius = tip_radius_mm * count ** (1 / 2.7)
        middle = ends.mean(0)
        stop = middle if count == 1 else start + generator.uniform(0.35, 0.6) * (middle - start)
        bend = (start + stop) / 2 + generator.normal(0, 0.07, 3) * np.linalg.norm(stop - start)
        starts += [start, bend]
        stops += [bend, stop]
        radii += [(radius_before, radius), (radius, radius)]
        if count > 1:
            widest = np.linalg.svd(ends - middle, full_matrices=False)[2][0]
            side = (ends - middle) @ widest > generator.normal(0, 0.5)
            if side.all() or not side.any():
                side = np.arange(count) < count // 2
            pending += [(stop, ends[side], radius), (stop, ends[~side], radius)]
    if not starts:
        return Tree.join([])
    return Tree(np.array(starts), np.array(stops), np.array(radii))


def paint_tree(canvas: Canvas, tree: Tree, hu: float, wall_mm: float = 0.0) -> None:
    """Paint all pieces of a tree, with radii `wall_mm` larger than their own."""
    for start, stop, (first, last) in zip(tree.start_xyz_mm, tree.stop_xyz_mm, tree.radius_mm, strict=True):
        paint_segment(canvas, start, stop, (first + wall_mm, last + wall_mm), hu)
