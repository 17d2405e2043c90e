"""The map of a deformation: its inverse, and that points and voxels go by the same one."""

import torch

from nodule_lightning.data.deformation import STEEPEST, Deformation, control_points, rotations, spline_basis

SHAPE = (40, 48, 56)
SPACING = 24.0


def deformation(steepness: float, patches: int = 16, scale: float = 1.3) -> Deformation:
    generator = torch.Generator().manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn((patches, 3), generator=generator), dim=1)
    size = scale ** (2 * torch.rand((patches, 1, 1), generator=generator) - 1)
    count = [control_points(side, SPACING) for side in SHAPE]
    control = steepness * SPACING * (2 * torch.rand((patches, *count, 3), generator=generator) - 1)
    matrix = rotations(axis, 6 * torch.rand(patches, generator=generator)) / size
    return Deformation(matrix, control, SPACING, SHAPE)


def anywhere(patches: int, count: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((patches, count, 3), generator=generator) * (torch.tensor(SHAPE) + 20) - 10


def test_target_undoes_source() -> None:
    for steepness in (0.0, 0.1, STEEPEST):
        deformed = deformation(steepness)
        places = anywhere(16)
        assert (deformed.target(deformed.source(places)) - places).abs().max() < 1e-3
        assert (deformed.source(deformed.target(places)) - places).abs().max() < 1e-3


def test_the_steepest_warp_in_the_worst_direction_is_undone_too() -> None:
    """Control points that alternate between the bounds bend the image most."""
    plain = deformation(0.0, 1, 1.0)
    sign = torch.tensor([1.0, -1.0])
    corners = [sign.repeat(4)[:count] for count in plain.control.shape[1:4]]
    control = torch.einsum("k,l,m->klm", *corners)[None, ..., None].expand(-1, -1, -1, -1, 3) * STEEPEST * SPACING
    worst = Deformation(torch.eye(3)[None], control, SPACING, SHAPE)
    places = anywhere(1, 400)
    assert (worst.target(worst.source(places)) - places).abs().max() < 1e-3


def test_voxels_are_taken_from_where_points_come_from() -> None:
    """An image of its own coordinates shows the source of each voxel."""
    deformed = deformation(0.2, 3)
    voxels = torch.stack(torch.meshgrid(*[torch.arange(side).float() for side in SHAPE], indexing="ij"), dim=-1)
    shown = torch.stack(
        [deformed.resample(voxels[..., axis].expand(3, 1, *SHAPE).contiguous(), 0.0)[:, 0] for axis in range(3)], dim=-1
    )
    source = deformed.source(voxels.reshape(1, -1, 3).expand(3, -1, -1)).view(3, *SHAPE, 3)
    within = ((source >= 0) & (source <= torch.tensor(SHAPE) - 1)).all(dim=-1)
    assert within.float().mean() > 0.4
    assert (shown - source)[within].abs().max() < 1e-3


def test_an_empty_batch_and_no_points_are_fine() -> None:
    nothing = Deformation(torch.zeros(0, 3, 3), torch.zeros(0, 0, 0, 0, 3), SPACING, (8, 8, 8))
    assert nothing.target(torch.zeros(0, 2, 3)).shape == (0, 2, 3)
    assert deformation(0.1, 2).target(torch.zeros(2, 0, 3)).shape == (2, 0, 3)


def test_splines_add_up_to_one_within_the_lattice() -> None:
    count = control_points(50, 12.0)
    weights = spline_basis(torch.linspace(0, 49, 99), 12.0, count)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(99))
    assert (weights[0] > 0).tolist() == [True] * 3 + [False] * (count - 3)


def test_rotations_turn_by_their_angle_about_their_axis() -> None:
    axis = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    turned = rotations(axis, torch.tensor([torch.pi / 2, torch.pi])) @ torch.tensor([0.0, 1, 0])
    torch.testing.assert_close(turned, torch.tensor([[-1.0, 0, 0], [0, -1, 0]]), atol=1e-6, rtol=0)
