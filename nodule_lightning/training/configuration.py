"""The configuration files of each start of a run.

Hydra would write them before any check: a refused command would overwrite the configuration of the run that it names,
and a resumed run would overwrite its original one.
"""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, ListConfig, OmegaConf
from yaml import YAMLError

from nodule_lightning.cache.entries import settings_differences
from nodule_lightning.io.files import write_whole

# Hydra's own name, where its users look.
FOLDER: Final = ".hydra"
CONFIG: Final = "config.yaml"
# These may differ between two starts without changing the result.
_WITHOUT_EFFECT: Final = ("resume", "rehearsal", "paths")


def write_configuration(folder: Path, configuration: Mapping[str, str]) -> str:
    """Write the configuration of this start, and print the settings that changed since the last.

    Args:
        folder: the run's folder.
        configuration: file contents by file name, `config.yaml` among them.

    Returns:
        The folder, relative to the run's folder: `.hydra` for the first start, `.hydra/start_2` for the next.
    """
    place, before = _places(folder)
    if before is not None and (changed := _changes(before / CONFIG, configuration[CONFIG])):
        print(f"note: this start has other settings than the one before (then and now): {'; '.join(changed)}")
    for name, text in configuration.items():
        write_whole(place / name, text.encode())
    return place.relative_to(folder).as_posix()


def _places(folder: Path) -> tuple[Path, Path | None]:
    """Return the first unused configuration folder, and the one of the previous start."""
    before, place = None, folder / FOLDER
    for number in count(2):
        if not (place / CONFIG).exists():
            break
        before, place = place, folder / FOLDER / f"start_{number}"
    return place, before


def _changes(before: Path, config: str) -> list[str]:
    try:
        then = OmegaConf.load(before)
    # Users may have edited the file.
    except (OSError, ValueError, YAMLError):
        return []
    return settings_differences(_of_the_run(then), _of_the_run(OmegaConf.create(config)))


def _of_the_run(config: DictConfig | ListConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=False)
    settings = values if isinstance(values, dict) else {}
    return {str(key): value for key, value in settings.items() if key not in _WITHOUT_EFFECT}
