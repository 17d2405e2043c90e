"""Keep out of the user's terminal what Lightning says in every run and nobody can act on."""

import logging
from collections.abc import Iterable


class DropTips(logging.Filter):
    """Drop the lines in which Lightning recommends its own services."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything but a tip pass."""
        return "Tip:" not in str(record.msg)


# A logger takes the same filter once only, however many jobs a sweep runs in this process.
_DROP_TIPS = DropTips()


def silence_tips() -> None:
    """Install the filter; to be called before the Trainer is made."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_DROP_TIPS)


def silence_log_files() -> None:
    """Let log files on a full disk lack lines without a traceback for each: what the run needs says it once."""
    logging.raiseExceptions = False


def drop_deprecated_arguments(loggers: Iterable[object]) -> None:
    """Take back what Lightning 2.6 hands wandb and wandb answers with a warning; to be called before the run starts.

    It passes `anonymous=None` where the user has not chosen it.
    """
    for logger in loggers:
        arguments = getattr(logger, "_wandb_init", {})
        if arguments.get("anonymous", "") is None:
            del arguments["anonymous"]
