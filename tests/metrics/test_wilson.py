import pytest

from nodule_lightning.metrics.functional.wilson import wilson_interval


# Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3.
@pytest.mark.parametrize(
    ("found", "number", "bounds"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_interval(found: int, number: int, bounds: tuple[float, float]) -> None:
    assert wilson_interval(found / number, number) == pytest.approx(bounds, abs=5e-5)
    low, high = wilson_interval(1 - found / number, number)
    assert (1 - high, 1 - low) == pytest.approx(bounds, abs=5e-5)
