"""An extension of Griffe, which reads the docstrings for the site, to show examples in the reference as code.

Griffe takes `Examples:` for code, and `Example:` for a remark.
"""

from __future__ import annotations

import re

import griffe


class Examples(griffe.Extension):
    """Treats `Example:` as `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rename the section of an object's docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
