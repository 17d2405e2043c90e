"""The dimensions of a chest, and the shape of its lungs.

All lengths are an adult's in mm times the scale of the body. Coordinates are in the frame of the body: x to the
patient's left, y to the back, z to the head, with the middle of the chest at zero.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float32

from nodule_lightning.phantom.canvas import Coordinates, Point

Generator = np.random.Generator
Depth = Float32[np.ndarray, "z y x"]

LUNG_HEIGHT_MM = 235.0
# From the middle of the body to the outermost point of a lung.
LUNG_REACH_MM = 142.0


@dataclass(frozen=True, slots=True)
class Thorax:
    """The dimensions of one chest.

    Attributes:
        scale: size of the body; 1 is an adult.
        body_mm: half-axes of the body's oval along x and y.
        fat_mm: thickness of the fat under the skin.
        lung_mm: half-axes of each lung along x and y, the right one (negative x) first.
        base_mm: z of each lung's base, the right one first.
        blood_hu: density of blood, with or without contrast medium.
        fluid_mm: level of fluid in each lung, as a distance in front of its middle, the right one first; None without
            fluid.
        diffuse: whether dense sheets cut the lungs to pieces.
        arms: whether the arms lie beside the body, on a table wider than the field of view.
    """

    scale: float
    body_mm: tuple[float, float]
    fat_mm: float
    lung_mm: tuple[tuple[float, float], tuple[float, float]]
    base_mm: tuple[float, float]
    blood_hu: float
    fluid_mm: tuple[float | None, float | None] = (None, None)
    diffuse: bool = False
    arms: bool = False

    @classmethod
    def draw(cls, scale: float, contrast: bool, generator: Generator) -> Self:
        """Draw a chest of the given size; its two lungs differ in shape."""
        s = scale

        def lung() -> tuple[float, float]:
            return s * generator.uniform(52, 60), s * generator.uniform(74, 86)

        return cls(
            scale=s,
            body_mm=(s * generator.uniform(156, 168), s * generator.uniform(106, 118)),
            fat_mm=s * generator.uniform(6, 16),
            lung_mm=(lung(), lung()),
            base_mm=(
                s * (generator.uniform(-6, 10) - LUNG_HEIGHT_MM / 2),
                s * (generator.uniform(-14, 2) - LUNG_HEIGHT_MM / 2),
            ),
            blood_hu=generator.uniform(140, 300) if contrast else generator.uniform(35, 55),
        )

    @property
    def apex_mm(self) -> float:
        """The z coordinate of the upper end of the lungs."""
        return self.scale * LUNG_HEIGHT_MM / 2

    def lung_box(self, side: int) -> tuple[Point, Point]:
        """Return two opposite corners of a box around one lung, with room for its uneven surface."""
        s = self.scale
        low, high = (s * 5.0, s * 142.0) if side > 0 else (s * -142.0, s * -5.0)
        return np.array([low, s * -98.0, s * -150.0]), np.array([high, s * 100.0, s * 130.0])

    def outline_mm(self, z_mm: float) -> tuple[float, float, float]:
        """Return the half-axes of the body's oval along x and y at one height, and the y coordinate of its centre.

        The neck ends inside the head; above that, the half-axes are zero.
        """
        s = self.scale
        shoulders = 1 + 0.1 * min(max((z_mm - s * 60) / (s * 60), 0.0), 1.0)
        # Above the lungs, the shoulders taper to the neck.
        neck = min(max((z_mm - s * 142) / (s * 50), 0.0), 1.0)
        half_x, half_y = self.body_mm[0] * shoulders, self.body_mm[1]
        # A round end: the neck narrows where the head widens.
        end = np.sqrt(1 - min(max((z_mm - s * 225) / (s * 75), 0.0), 1.0) ** 2)
        return (
            float(end * (half_x + neck * (s * 60 - half_x))),
            float(end * (half_y + neck * (s * 64 - half_y))),
            neck * s * 22,
        )

    def hilum(self, side: int) -> Point:
        """Return the point where vessels and airways enter a lung; side is -1 (right) or 1 (left)."""
        return self.scale * np.array([side * 30.0, 8.0, 8.0])

    def lung_depth(self, side: int, coordinates: Coordinates) -> Depth:
        """Return the approximate depth in mm of each voxel inside a lung; negative outside."""
        s = self.scale
        z, y, x = coordinates
        half_x, half_y = self.lung_mm[(side + 1) // 2]
        base = self.base_mm[(side + 1) // 2]
        height = np.clip((z - base) / (self.apex_mm - base), 0, 1)
        taper = np.sqrt(np.maximum(1 - height**3.2, 1e-3)) * (0.9 + 0.1 * np.sin(np.pi * height))
        across, along = (x - side * s * 70) / (half_x * taper), (y - s * 2) / (half_y * taper)
        oval = across**2 + along**2
        depth = (1 - np.sqrt(oval)) * half_x * taper
        dome = base + s * 30 * np.maximum(1 - oval, 0)
        depth = np.minimum(np.minimum(depth, (z - dome) * 0.8), self.apex_mm - z)
        depth = np.minimum(depth, side * x - s * (17 + 9 * np.exp(-((y - s * 55) ** 2) / (s * 40) ** 2)))
        inside: Depth = np.minimum(depth, self._outside_heart(coordinates))
        return inside

    def aerated_depth(self, side: int, coordinates: Coordinates) -> Depth:
        """Return the approximate depth in mm of each voxel inside the aerated part of a lung; negative outside."""
        level = self.fluid_mm[(side + 1) // 2]
        depth = self.lung_depth(side, coordinates)
        if level is None:
            return depth
        z, y, _ = coordinates
        # The patient is supine: fluid gathers at the back and at the base.
        aerated: Depth = np.minimum(depth, 0.6 * z - 0.8 * y - level)
        return aerated

    def _outside_heart(self, coordinates: Coordinates) -> Depth:
        centre, radii = (values.tolist() for values in self.heart)
        z, y, x = coordinates
        scaled = np.sqrt(
            ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2
        )
        outside: Depth = (scaled - 1) * radii[1]
        return outside

    @property
    def heart(self) -> tuple[Point, Point]:
        """The centre and the half-axes of the heart."""
        return self.scale * np.array([22.0, -28.0, -58.0]), self.scale * np.array([56.0, 42.0, 52.0])
