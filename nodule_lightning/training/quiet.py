"""Suppression of terminal output that users cannot act on."""

import logging
from collections.abc import Iterable


class DropTips(logging.Filter):
    """Logging filter that drops Lightning's tips about its own services."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record that is not a tip."""
        return "Tip:" not in str(record.msg)


# One instance, because a logger ignores a filter it already has: the jobs of a sweep run in this same process.
_DROP_TIPS = DropTips()


def silence_tips() -> None:
    """Filter Lightning's tips; call this before the Trainer is created."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_DROP_TIPS)


def silence_log_files() -> None:
    """Skip log lines that a full disk refuses; checkpoints report the full disk once, with an error."""
    logging.raiseExceptions = False


def drop_deprecated_arguments(loggers: Iterable[object]) -> None:
    """Remove `anonymous=None` from the arguments of `wandb.init`; call this before the wandb run starts.

    Lightning 2.6 always passes the argument, and wandb warns that it is deprecated.
    """
    for logger in loggers:
        # WandbLogger has no public access to these arguments, and its constructor always adds this one.
        arguments = getattr(logger, "_wandb_init", {})
        if arguments.get("anonymous", "") is None:
            del arguments["anonymous"]
