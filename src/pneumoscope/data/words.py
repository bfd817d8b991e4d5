"""The words that data sets have for classes, splits and views, and what they mean here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pneumoscope.data.samples import LABELS
from pneumoscope.errors import DatasetError

Other = Literal["negative", "skip"]
"""What becomes of images of neither class: they count as `NORMAL` and are marked as other, or are left out."""

_NORMAL = """
    0, normal, normals, no finding, no findings, no pneumonia, non pneumonia, healthy,
    normaal, normale, normales, normalny, normaali, norma, sano, sana, sain, gesund, saudavel, saglikli, zdrowy, friska,
    normalno, normalt, 正常, 정상, 正常な, норма, здоровые
"""
_PNEUMONIA = """
    1, pneumonia, pneumonias, pneumonie, neumonia, polmonite, pneumoni, pnomoni, zatürre, longontsteking,
    lungenentzündung, zapalenie pluc, lunginflammation, lungebetennelse, lungebetændelse, keuhkokuume, pneumoonia,
    pneumonia bacterial, pneumonia viral, bacterial pneumonia, viral pneumonia, pneumonia bacteria, pneumonia virus,
    肺炎, 폐렴, пневмония, пневмонія
"""
_SPLITS = {
    "train": "train, training, train set, training set, trainset, entrenamiento, entrainement, treino, addestramento",
    "val": """val, valid, validation, validate, dev, development, val set, validation set, validacion, validacao,
        validazione, validierung""",
    "test": "test, tests, testing, test set, testset, testing set, eval, evaluation, prueba, teste",
}
_SUBTYPES = {"bacterial": "bacteria", "bacteria": "bacteria", "viral": "virus", "virus": "virus"}
_MASKS = """
    mask, masks, segmentation, segmentations, annotation, annotations, ground truth, heatmap, heatmaps,
    overlay, overlays, maske, masken, masque, masques, mascara, mascaras, maschera, maschere, masker, maskers, maski,
    maskeler, maskit, маска, маски, 掩码, 掩膜, 掩模, マスク, 마스크
"""
_VIEWS = {"ap": "AP", "pa": "PA", "ll": "lateral", "rl": "lateral", "lat": "lateral", "lateral": "lateral"}
_NO_VIEW = {"", "unknown", "none", "nan", "na", "frontal"}


def plain(word: str) -> str:
    """Reduce a name to what counts: no case, no accents, single spaces for `_`, `-` and the like.

    Example:
        >>> plain(" Viral_Pneumonía")
        'viral pneumonia'
    """
    letters = unicodedata.normalize("NFKD", word.casefold())
    return " ".join(re.sub(r"[\s_\-]+", " ", "".join(c for c in letters if not unicodedata.combining(c))).split())


def _table(words: str) -> frozenset[str]:
    return frozenset(plain(word) for word in words.split(","))


_CLASS_WORDS = (_table(_NORMAL), _table(_PNEUMONIA))
_SPLIT_WORDS = {word: split for split, words in _SPLITS.items() for word in _table(words)}
_MASK_WORDS = _table(_MASKS)


@dataclass(frozen=True)
class Classes:
    """What the names of a data set's classes mean.

    Attributes:
        named: the words given for a class, by `NORMAL` or `PNEUMONIA`; they take the place of the usual ones of that
            class.
        other: what becomes of images of neither class; without it they are an error.
    """

    named: Mapping[str, frozenset[str]] = field(default_factory=dict)
    other: Other | None = None

    @classmethod
    def of(cls, classes: Mapping[str, str] | None = None, other: Other | None = None) -> Classes:
        """Take them as a user gives them.

        Args:
            classes: `NORMAL` or `PNEUMONIA`, in any letter case, by the data set's word for it.
            other: as above.

        Raises:
            DatasetError: a class or a choice that there is not.

        Example:
            >>> Classes.of({"Healthy": "normal", "Lung_Opacity": "pneumonia"}).label("LUNG OPACITY")
            1
        """
        named: dict[str, frozenset[str]] = {}
        for word, name in (classes or {}).items():
            if name.upper() not in LABELS:
                raise DatasetError(f"Expected normal or pneumonia as the class of '{word}', got '{name}'.")
            named[name.upper()] = named.get(name.upper(), frozenset()) | {plain(word)}
        if other not in (None, "negative", "skip"):
            raise DatasetError(f"Expected negative or skip for images of other classes, got '{other}'.")
        if both := named.get("NORMAL", frozenset()) & named.get("PNEUMONIA", frozenset()):
            raise DatasetError(f"Expected each name in one class, got '{min(both)}' in both.")
        return cls(named, other)

    def label(self, word: str) -> int | None:
        """Give 0 for `NORMAL`, 1 for `PNEUMONIA`, None for another word; of several with `|` between them, one decides.

        Example:
            >>> [Classes().label(word) for word in ("Normal", "PNEUMONIE", "1", "COVID", "Effusion|Pneumonia")]
            [0, 1, 1, None, 1]
        """
        if "|" in word:
            each = {self.label(part) for part in word.split("|")}
            return 1 if 1 in each else 0 if each == {0} else None
        meant = re.fullmatch(r"([01])\.0*|(true)|(false)", word := plain(word))
        if meant:  # what pandas makes of a column of 0 and 1
            word = meant[1] or ("1" if meant[2] else "0")
        named = [label for label, name in enumerate(LABELS) if word in self.named.get(name, ())]
        usual = [label for label, name in enumerate(LABELS) if name not in self.named and word in _CLASS_WORDS[label]]
        return next(iter(named + usual), None)


def subtype(word: str) -> str | None:
    """Give `bacteria` or `virus` where the name of a class says so.

    Example:
        >>> subtype("Viral Pneumonia"), subtype("PNEUMONIA")
        ('virus', None)
    """
    return next((_SUBTYPES[part] for part in plain(word).split() if part in _SUBTYPES), None)


def split(word: str) -> str | None:
    """Give `train`, `val` or `test`; None for another word.

    Example:
        >>> [split(word) for word in ("Testing", "dev", "eval", "fold1")]
        ['test', 'val', 'test', None]
    """
    return _SPLIT_WORDS.get(plain(word))


def is_masks(word: str) -> bool:
    """Say whether a folder of this name holds masks or other drawings of what radiographs show: by its last word.

    Example:
        >>> [is_masks(word) for word in ("lung masks", "ManualMask", "images")]
        [True, True, False]
    """
    word = plain(word)
    return word.endswith(("mask", "masks")) or any(word == one or word.endswith(f" {one}") for one in _MASK_WORDS)


def view(word: str) -> str | None:
    """Give `AP`, `PA` or `lateral`; nothing where the word leaves it open, None where it is none.

    Example:
        >>> [view(word) for word in ("pa", "AP SUPINE", "LL", "", "Waters")]
        ['PA', 'AP', 'lateral', '', None]
    """
    word = plain(word)
    return "" if word in _NO_VIEW else _VIEWS.get(word.split()[0])
