"""The learning rate rises and falls as torch's one cycle, for any number of steps."""

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from nodule_lightning.data.curriculum import Curriculum, Stage
from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.errors import InputError
from nodule_lightning.losses.hard_mining import HardMiningLoss
from nodule_lightning.training.schedule import Schedule, Steps, WarmUpAndDecay, scheduler
from tests.balls import one_stage


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)


@pytest.mark.parametrize(("total", "warm_up"), [(2, 0.1), (7, 0.3), (100, 0.05)])
def test_the_shape_is_torchs(total: int, warm_up: float) -> None:
    ours, theirs = optimizer(), optimizer()
    schedules = (
        scheduler(ours, WarmUpAndDecay(warm_up), one_stage(), total, 1),
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
        assert all(0 < WarmUpAndDecay(warm_up)(step, total) <= 1 for step in range(total + 5))


def test_a_longer_run_can_go_on_from_a_shorter_ones_state() -> None:
    first = scheduler(optimizer(), WarmUpAndDecay(), one_stage(), 4, 1)
    second = scheduler(optimizer(), WarmUpAndDecay(), one_stage(), 40, 1)
    second.load_state_dict(first.state_dict())
    second.optimizer.step()
    second.step()
    assert second.get_last_lr()[0] == pytest.approx(0.5 * WarmUpAndDecay(0.1)(1, 40))


def staged(factors: list[float]) -> Curriculum:
    loss, rule = HardMiningLoss(), SamplingRule()
    return Curriculum({str(place): Stage(2, loss, rule, factor) for place, factor in enumerate(factors)})


@pytest.mark.parametrize("shape", [None, WarmUpAndDecay(0.3), Steps((0.5,), (0.1,))])
def test_each_stage_multiplies_the_schedule_of_the_whole_run(shape: Schedule | None) -> None:
    stepped = optimizer()
    schedule = scheduler(stepped, shape, staged([1.0, 0.5, 0.25]), 18, 3)
    rates = []
    for _ in range(18):
        rates.append(stepped.param_groups[0]["lr"])
        stepped.step()
        schedule.step()
    factors = [1.0] * 6 + [0.5] * 6 + [0.25] * 6
    shares = [1.0 if shape is None else shape(step, 18) for step in range(18)]
    by_hand = [0.5 * factor * share for factor, share in zip(factors, shares, strict=True)]
    assert rates == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("at", "factors"), [((0.5,), ()), ((0.5, 0.4), (0.1, 0.1)), ((0.0,), (0.1,)), ((1.5,), (1.0,))]
)
def test_steps_that_do_not_rise_are_refused(at: tuple[float, ...], factors: tuple[float, ...]) -> None:
    with pytest.raises(InputError) as error:
        Steps(at, factors)
    assert error.value.key == "argument-invalid"
    assert str(list(at)) in str(error.value)
    assert str(list(factors)) in str(error.value)


@pytest.mark.parametrize("warm_up", [-0.1, 5.0, float("nan")])
def test_a_warm_up_beyond_the_run_is_refused(warm_up: float) -> None:
    with pytest.raises(InputError) as error:
        WarmUpAndDecay(warm_up)
    assert error.value.key == "argument-invalid"
    assert "warm_up" in str(error.value)
    assert str(warm_up) in str(error.value)
