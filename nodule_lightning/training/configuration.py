"""Keep the configuration of each start of a run.

Hydra itself would write it before anything is checked: over that of the run that a refused command names, and over
that which a resumed run was begun with.
"""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, ListConfig, OmegaConf
from yaml import YAMLError

from nodule_lightning.cache.entries import settings_differences
from nodule_lightning.io.files import write_whole

# Where users of Hydra look for it.
FOLDER: Final = ".hydra"
CONFIG: Final = "config.yaml"
# These may differ between two starts of a run without a change of its result.
_OF_THE_START: Final = ("resume", "rehearsal", "paths")


def write_configuration(folder: Path, configuration: Mapping[str, str]) -> str:
    """Write the configuration of a start, and print what differs from the start before.

    Args:
        folder: of the run.
        configuration: the text of each file by its name; `config.yaml` is one of them.

    Returns:
        The place, relative to the run's folder: `.hydra` of the first start, `.hydra/start_2` of the next.
    """
    place, before = _places(folder)
    if before is not None and (changed := _changes(before / CONFIG, configuration[CONFIG])):
        print(f"note: this start has other settings than the one before (then and now): {'; '.join(changed)}")
    for name, text in configuration.items():
        write_whole(place / name, text.encode())
    return place.relative_to(folder).as_posix()


def _places(folder: Path) -> tuple[Path, Path | None]:
    """Return the first place that is free, and the one before it."""
    before, place = None, folder / FOLDER
    for number in count(2):
        if not (place / CONFIG).exists():
            break
        before, place = place, folder / FOLDER / f"start_{number}"
    return place, before


def _changes(before: Path, config: str) -> list[str]:
    try:
        then = OmegaConf.load(before)
    # It may have been edited since.
    except (OSError, ValueError, YAMLError):
        return []
    return settings_differences(_of_the_run(then), _of_the_run(OmegaConf.create(config)))


def _of_the_run(config: DictConfig | ListConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=False)
    settings = values if isinstance(values, dict) else {}
    return {str(key): value for key, value in settings.items() if key not in _OF_THE_START}
