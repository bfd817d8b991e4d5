"""Letters without what some keyboards lack: words are compared so, in headers and in the names of folders."""

from __future__ import annotations

import unicodedata

_STROKES = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"})
"""Letters that are no others with an accent, but are written as these where accents are not at hand."""


def bare(text: str) -> str:
    """Write a text in small letters without accents and strokes.

    Example:
        >>> bare("Röntgen"), bare("Zapalenie płuc"), bare("SAĞLIKLI"), bare("Боковой")
        ('rontgen', 'zapalenie pluc', 'saglikli', 'боковои')
    """
    letters = unicodedata.normalize("NFKD", text.casefold().translate(_STROKES))
    return unicodedata.normalize("NFC", "".join(letter for letter in letters if not unicodedata.combining(letter)))
