"""Keep Lightning's advertisements out of the user's terminal."""

import logging


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
