"""Search a whole scan for candidates: tiles, memory, mirroring, second stage, outputs."""
