"""Choice of positions in the lungs for nodules and their imitations."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from nodule_lightning.errors import InputError
from nodule_lightning.phantom.canvas import Point

Generator = np.random.Generator
ATTEMPTS = 60
# How many times `ATTEMPTS` positions are drawn before the lungs count as full.
DRAWS = 10


@runtime_checkable
class Vessels(Protocol):
    """The vessels of both lungs: generated ones, or those detected in a scan."""

    def __len__(self) -> int: ...

    def clearance_mm(self, points_xyz_mm: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n"]:
        """Return the distance of each point to the nearest vessel."""
        ...

    def beside(self, radius_mm: float, attempts: int, generator: Generator) -> Float64[np.ndarray, "attempts 3"]:
        """Draw centres at which a nodule of that radius touches a vessel."""
        ...


@dataclass(frozen=True, slots=True)
class LungPoints:
    """Evenly distributed points in both lungs, from which positions are drawn.

    Attributes:
        xyz_mm: world position of each point.
        depth_mm: distance of each point to the surface of the lung.
        middle_mm: distance from the mid-plane of the body that divides a lung into an inner and an outer half.
        midplane_mm: world x of the mid-plane.
    """

    xyz_mm: Float64[np.ndarray, "n 3"]
    depth_mm: Float64[np.ndarray, "n"]
    middle_mm: float
    midplane_mm: float = 0.0

    def place(
        self, place: str, radius_mm: float, vessels: Vessels, taken: list[tuple[Point, float]], generator: Generator
    ) -> Point:
        """Choose a position of the wanted kind, at least 4 mm from everything placed before if possible.

        Args:
            place: `free`, `vessel`, `pleura` or `mediastinum`.
            radius_mm: radius of what is to be placed.
            vessels: the vessels of both lungs.
            taken: centre and radius of everything placed before.
            generator: random generator.

        Returns:
            A world position inside the lung. If none satisfies all conditions, the best of those drawn.
        """
        return self._best(place, radius_mm, vessels, taken, generator)[0]

    def place_apart(
        self, place: str, radius_mm: float, vessels: Vessels, taken: list[tuple[Point, float]], generator: Generator
    ) -> Point:
        """Choose a position like `place`, but never one that overlaps with something placed before.

        Raises:
            InputError: no such position was found.
        """
        for _ in range(DRAWS):
            centre, gap_mm = self._best(place, radius_mm, vessels, taken, generator)
            if gap_mm >= 0:
                return centre
        raise InputError(
            f"the lungs have no room left for a nodule of {2 * radius_mm:g} mm ({place}): "
            "plant fewer or smaller nodules",
            "argument-invalid",
        )

    def _best(
        self, place: str, radius_mm: float, vessels: Vessels, taken: list[tuple[Point, float]], generator: Generator
    ) -> tuple[Point, float]:
        options = self._options(place, radius_mm, vessels, generator)
        if place == "free":
            clearance = vessels.clearance_mm(options)
            options = options[np.argsort(clearance <= radius_mm + 1.0, kind="stable")]
        gaps = np.array([_gap(option, radius_mm, taken) for option in options])
        chosen = int(np.argmax(gaps > 4.0) if (gaps > 4.0).any() else np.argmax(gaps))
        return options[chosen], float(gaps[chosen])

    def _options(
        self, place: str, radius_mm: float, vessels: Vessels, generator: Generator
    ) -> Float64[np.ndarray, "attempts 3"]:
        inner = np.abs(self.xyz_mm[:, 0] - self.midplane_mm) < self.middle_mm
        if place == "vessel" and len(vessels):
            beside = vessels.beside(radius_mm, ATTEMPTS, generator)
            nearest = cKDTree(self.xyz_mm, balanced_tree=False, compact_nodes=False).query(beside)[1]
            inside = self.depth_mm[nearest] > radius_mm
            if inside.any():
                fitting: Float64[np.ndarray, "attempts 3"] = beside[inside]
                return fitting
        if place in ("pleura", "mediastinum"):
            wanted = (self.depth_mm > 0.35 * radius_mm) & (self.depth_mm < max(0.9 * radius_mm, 2.5))
            wanted &= inner if place == "mediastinum" else ~inner
        else:
            wanted = self.depth_mm > radius_mm + 2
        if not wanted.any():
            wanted = self.depth_mm >= min(radius_mm, float(self.depth_mm.max()))
        options: Float64[np.ndarray, "attempts 3"] = self.xyz_mm[generator.choice(np.flatnonzero(wanted), ATTEMPTS)]
        return options


def _gap(point: Point, radius_mm: float, taken: list[tuple[Point, float]]) -> float:
    return min((float(np.linalg.norm(point - other)) - radius_mm - room for other, room in taken), default=np.inf)
