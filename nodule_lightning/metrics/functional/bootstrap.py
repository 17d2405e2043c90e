"""How far the score would move with other scans: resampling of scans with replacement."""

import numpy as np
from jaxtyping import Float64, Int64

from nodule_lightning.metrics.functional.curve import RATES, Events

# A resample may need more of the curve than the whole set to reach the last rate; one in very many needs all of it.
HEAD_MARGIN = 1.25


def bootstrap(
    events: Events,
    nodules_in_scan: Int64[np.ndarray, "scan"],
    rates: Float64[np.ndarray, "rate"],
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "resample rate"]:
    """Give the sensitivities at the rates for so many draws of as many scans, with replacement.

    A draw without any nodule has no sensitivity and is left out.
    """
    rng = np.random.default_rng(seed)
    scans = len(nodules_in_scan)
    head = events.head(HEAD_MARGIN * RATES[-1] * scans)
    curves = []
    for _ in range(resamples if scans else 0):
        times = np.bincount(rng.integers(scans, size=scans), minlength=scans)
        nodules = int(times @ nodules_in_scan)
        if nodules:
            curves.append(_resampled(events, head, times, nodules, rates))
    return np.array(curves).reshape(-1, len(rates))


def _resampled(
    events: Events, head: Events, times: Int64[np.ndarray, "scan"], nodules: int, rates: Float64[np.ndarray, "rate"]
) -> Float64[np.ndarray, "rate"]:
    """Trace the head of the curve with every scan counted so many times, and all of it if the head is too short."""
    weight = times[head.scan]
    all_of_them = np.cumsum(weight)[head.ends]
    found = np.cumsum(weight * (head.nodule >= 0))[head.ends]
    fps = np.append(0.0, (all_of_them - found) / len(times))
    if fps[-1] < rates[-1] and len(head.ends) < len(events.ends):
        return _resampled(events, events, times, nodules, rates)
    values: np.ndarray = np.interp(rates, fps, np.append(0.0, found / nodules))
    return values
