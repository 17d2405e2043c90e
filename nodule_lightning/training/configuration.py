"""Keep the configuration of each start of a run.

Hydra itself would write it before anything has been checked, over that of the run that a refused command names, and
that of a resumed run over the one it began with.
"""

from itertools import count
from pathlib import Path
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from yaml import YAMLError

from nodule_lightning.cache.entries import settings_differences
from nodule_lightning.config.instantiate import as_written
from nodule_lightning.io.files import write_whole

# Where Hydra's users look for it.
PLACE: Final = ".hydra"
CONFIG: Final = "config.yaml"
# What may differ between two starts of one run without a change of what it gives.
_OF_THE_START: Final = ("resume", "rehearsal", "paths")


def write_configuration(folder: Path, config: DictConfig) -> str:
    """Write the configuration, Hydra's own and the arguments of a start; say what differs from the start before.

    Args:
        folder: of the run.
        config: of `nodule-train`.

    Returns:
        The place, seen from the run's folder: `.hydra` of the first start, `.hydra/start_2` of the next.
    """
    place, before = _places(folder)
    if before is not None and (changed := _changes(before / CONFIG, config)):
        print(f"note: this start has other settings than the one before (then and now): {'; '.join(changed)}")
    settings = HydraConfig.get()
    for name, values in (
        (CONFIG, config),
        ("hydra.yaml", OmegaConf.create({"hydra": settings})),
        ("overrides.yaml", OmegaConf.create(as_written(settings.overrides.task))),
    ):
        write_whole(place / name, OmegaConf.to_yaml(values).encode())
    return place.relative_to(folder).as_posix()


def _places(folder: Path) -> tuple[Path, Path | None]:
    """Give the first place that is free, and the one before it."""
    before, place = None, folder / PLACE
    for number in count(2):
        if not (place / CONFIG).exists():
            break
        before, place = place, folder / PLACE / f"start_{number}"
    return place, before


def _changes(before: Path, config: DictConfig) -> list[str]:
    try:
        then = OmegaConf.load(before)
    # It may have been edited since.
    except (OSError, ValueError, YAMLError):
        return []
    return settings_differences(_of_the_run(then), _of_the_run(config))


def _of_the_run(config: DictConfig | ListConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=False)
    settings = values if isinstance(values, dict) else {}
    return {str(key): value for key, value in settings.items() if key not in _OF_THE_START}
