"""How much a peer may ask for, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass

from pneumoscope.imaging.radiograph import MAX_PIXELS


@dataclass(frozen=True)
class Limits:
    """How much a peer may ask for.

    Attributes:
        object_bytes: of an object; a larger one is thrown away as it comes, and its sender told so.
        held: bytes of all objects together that are being received.
        associations: at once.
        spool: bytes on disk before further images are rejected.
        pixels: of an image.
        image_seconds: time to predict an image.
        idle_seconds: time without a byte from a peer whose turn it is.
        pdu_seconds: time to send a protocol data unit.
    """

    object_bytes: int = 128_000_000
    held: int = 512_000_000
    associations: int = 32
    spool: int = 4_000_000_000
    pixels: int = MAX_PIXELS
    image_seconds: float = 20.0
    idle_seconds: float = 30.0
    pdu_seconds: float = 60.0
