"""Whose rules a score follows."""

from enum import StrEnum


class Protocol(StrEnum):
    """A challenge; Tianchi's rules are those of LUNA16 without a list of excluded findings."""

    LUNA16 = "luna16"
    TIANCHI = "tianchi"

    @property
    def label(self) -> str:
        """Spell the name as its makers do."""
        return {Protocol.LUNA16: "LUNA16", Protocol.TIANCHI: "Tianchi"}[self]
