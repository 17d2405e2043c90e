"""Challenges whose rules a score can follow."""

from enum import StrEnum


class Protocol(StrEnum):
    """Rules of a challenge; Tianchi's are those of LUNA16 without excluded findings."""

    LUNA16 = "luna16"
    TIANCHI = "tianchi"

    @property
    def label(self) -> str:
        """Name of the challenge as its organisers spell it."""
        return {Protocol.LUNA16: "LUNA16", Protocol.TIANCHI: "Tianchi"}[self]
