"""Text without case, accents and strokes, for comparing words in headers and folder names."""

from __future__ import annotations

import unicodedata

_STROKES = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"})
"""Letters that Unicode does not decompose into a base letter and an accent, and what people write instead."""


def bare(text: str) -> str:
    """Return a text in lower case without accents and strokes.

    Example:
        >>> bare("Röntgen"), bare("Zapalenie płuc"), bare("SAĞLIKLI"), bare("Боковой")
        ('rontgen', 'zapalenie pluc', 'saglikli', 'боковои')
    """
    letters = unicodedata.normalize("NFKD", text.casefold().translate(_STROKES))
    return unicodedata.normalize("NFC", "".join(letter for letter in letters if not unicodedata.combining(letter)))
