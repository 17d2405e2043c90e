"""Find lung nodules in chest CT: train detectors, search scans, score by LUNA16's rules.

The names in `__all__` are the Python API. Each is imported on first use, so that the import of the package is fast.

    import nodule_lightning as nl

    candidates = nl.load_detector("best.ckpt").search("scan.mhd")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodule_lightning.api import (
        froc,
        fuse,
        load_detector,
        prepare,
        read_candidates,
        read_findings,
        read_scan,
        read_scan_ids,
        write_candidates,
    )
    from nodule_lightning.errors import InputError
    from nodule_lightning.io.settings import ReadingSettings
    from nodule_lightning.metrics.functional.result import FrocResult
    from nodule_lightning.preparation.prepare import PreparationSettings
    from nodule_lightning.search.predict import Detector
    from nodule_lightning.structures import Candidates, Entry, Findings, Scan, Table

__version__ = "0.1.0"

__all__ = [
    "Candidates",
    "Detector",
    "Entry",
    "Findings",
    "FrocResult",
    "InputError",
    "PreparationSettings",
    "ReadingSettings",
    "Scan",
    "Table",
    "froc",
    "fuse",
    "load_detector",
    "prepare",
    "read_candidates",
    "read_findings",
    "read_scan",
    "read_scan_ids",
    "write_candidates",
]

_HOME_OF_CLASS = {
    "Candidates": "structures",
    "Detector": "search.predict",
    "Entry": "structures",
    "Findings": "structures",
    "FrocResult": "metrics.functional.result",
    "InputError": "errors",
    "PreparationSettings": "preparation.prepare",
    "ReadingSettings": "io.settings",
    "Scan": "structures",
    "Table": "structures",
}

# Hidden from type checkers, which would otherwise accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name of the API on first use (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOME_OF_CLASS.get(name, 'api')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
