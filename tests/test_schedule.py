"""The learning rate rises and falls as torch's one cycle, for any number of steps."""

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from nodule_lightning.schedule import factor, warm_up_and_decay


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)


@pytest.mark.parametrize(("total", "warm_up"), [(2, 0.1), (7, 0.3), (100, 0.05)])
def test_the_shape_is_torchs(total: int, warm_up: float) -> None:
    ours, theirs = optimizer(), optimizer()
    schedules = (
        warm_up_and_decay(ours, total, warm_up),
        OneCycleLR(theirs, 0.5, total, pct_start=warm_up, cycle_momentum=False),
    )
    for _ in range(total - 1):
        for stepped, schedule in zip((ours, theirs), schedules, strict=True):
            stepped.step()
            schedule.step()
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("total", [1, 2, 10])
def test_any_number_of_steps_and_warm_up_is_fine(total: int) -> None:
    for warm_up in (0.0, 0.1, 0.5, 1.0):
        assert all(0 < factor(step, total, warm_up) <= 1 for step in range(total + 5))


def test_a_longer_run_can_go_on_from_a_shorter_ones_state() -> None:
    first = warm_up_and_decay(optimizer(), 4)
    second = warm_up_and_decay(optimizer(), 40)
    second.load_state_dict(first.state_dict())
    second.optimizer.step()
    second.step()
    assert second.get_last_lr()[0] == pytest.approx(0.5 * factor(1, 40, 0.1))
