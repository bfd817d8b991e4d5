"""Limits on what peers may send, and how long they may take."""

from __future__ import annotations

from dataclasses import dataclass

from pneumoscope.imaging.radiograph import MAX_PIXELS


@dataclass(frozen=True)
class Limits:
    """Limits on what peers may send.

    Attributes:
        object_bytes: bytes per object; a larger object is discarded as it arrives, and its sender gets an error.
        held: bytes of all objects together that are being received.
        associations: simultaneous associations.
        spool: bytes on disk above which further images are rejected.
        pixels: pixels per image.
        image_seconds: seconds to predict an image.
        idle_seconds: seconds without receiving a byte from a peer that should send.
        pdu_seconds: seconds to send a protocol data unit.
    """

    object_bytes: int = 128_000_000
    held: int = 512_000_000
    associations: int = 32
    spool: int = 4_000_000_000
    pixels: int = MAX_PIXELS
    image_seconds: float = 20.0
    idle_seconds: float = 30.0
    pdu_seconds: float = 60.0
