"""The words that data sets use for classes, splits, masks and views, and what they mean here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pneumoscope.data.samples import LABELS
from pneumoscope.errors import DatasetError
from pneumoscope.imaging import letters

Other = Literal["negative", "skip"]
"""How to treat images of neither class: count them as `NORMAL` and mark them as other, or leave them out."""

_NORMAL = """
    0, normal, normals, no finding, no findings, nofinding, no pneumonia, non pneumonia, not pneumonia, without
    pneumonia, healthy, normal images, normaal, normale, normales, normali, normais, normaux, normalny,
    normalne, normalni, normaali, normaalit, norma, sano, sanos, sana, sani, sain, sains, gesund, gesunde,
    saudavel, saudaveis, saglikli, zdrowy, zdrowe, zdrowi, terve, terveet, gezond, gezonde, friska, normalno,
    normalt, keine pneumonie, sans pneumonie, sin neumonia, sem pneumonia, senza polmonite, geen longontsteking,
    bez zapalenia pluc, ei keuhkokuumetta, без пневмонии, норма, нормальный, нормальные, здоровый, здоровые, 正常,
    正常な, 健康, 健常, 無肺炎, 无肺炎, 肺炎なし, 정상
"""
_PNEUMONIA = """
    1, pneumonia, pneumonias, pneumonia images, pneumonie, pneumonies, pneumonien, neumonia, neumonias,
    polmonite, polmoniti, pneumoni, pnomoni, zatürre, zatürree, longontsteking, longontstekingen,
    lungenentzündung, lungenentzuendung, zapalenie pluc, zapalenia pluc, lunginflammation, lungebetennelse,
    lungebetændelse, keuhkokuume, pneumoonia, pneumonia bacterial, pneumonia viral, bacterial pneumonia, viral
    pneumonia, pneumonia bacteria, pneumonia virus, bacteria, bacterial, virus, viral, bakterielle pneumonie,
    virale pneumonie, pneumonie bacterienne, pneumonie virale, neumonia bacteriana, neumonia viral, pneumonia
    bacteriana, polmonite batterica, polmonite virale, пневмония, пневмонии, пневмонія, бактериальная пневмония,
    вирусная пневмония, 肺炎, 细菌性肺炎, 細菌性肺炎, 病毒性肺炎, ウイルス性肺炎, 폐렴
"""
_SPLITS = {
    "train": """train, training, train set, training set, trainset, train data, training data, entrenamiento,
        entrainement, apprentissage, treino, treinamento, addestramento, trainingsdaten, trening, treningowy, uczenie,
        opleiding, koulutus, opetus, egitim, обучение, обучающая, тренировка, 训练, 训练集, 訓練, 学習, 学習用""",
    "val": """val, valid, validation, validate, dev, development, val set, valset, valid set, validation set, val data,
        validation data, tuning, validacion, validacao, validazione, validierung, walidacja, validatie, validointi,
        dogrulama, валидация, валидационная, 验证, 验证集, 驗證, 検証, 検証用""",
    "test": """test, tests, testing, test set, testset, testing set, test data, eval, evaluation,
        prueba, pruebas, evaluacion, teste, testdaten, testowy, testowe, testi, тест, тестовая, тестовый, 测试, 测试集,
        測試, テスト, 評価""",
}
_SUBTYPES = {
    "bacteria": """bacteria, bacterial, bakterielle, bacterienne, bacteriana, batterica, бактериальная, 细菌性肺炎,
        細菌性肺炎""",
    "virus": "virus, viral, virale, вирусная, 病毒性肺炎, ウイルス性肺炎",
}
_MASKS = """
    mask, masks, segmentation, segmentations, annotation, annotations, ground truth, heatmap, heatmaps,
    overlay, overlays, maske, masken, masque, masques, mascara, mascaras, maschera, maschere, masker, maskers, maski,
    maskeler, maskit, маска, маски, 掩码, 掩膜, 掩模, マスク, 마스크
"""
_VIEWS = {
    **{"ap": "AP", "anteroposterior": "AP", "antero": "AP", "pa": "PA", "posteroanterior": "PA", "postero": "PA"},
    **dict.fromkeys(("l", "ll", "rl", "lat", "lateral"), "lateral"),
}
_NO_VIEW = {"", "unknown", "none", "nan", "na", "frontal"}


def plain(word: str) -> str:
    """Normalise a name: lower case, no accents, single spaces instead of `_`, `-` and the like.

    Example:
        >>> plain(" Viral_Pneumonía")
        'viral pneumonia'
    """
    return " ".join(re.sub(r"[\s_\-]+", " ", letters.bare(word)).split())


def _table(words: str) -> frozenset[str]:
    return frozenset(plain(word) for word in words.split(","))


_CLASS_WORDS = (_table(_NORMAL), _table(_PNEUMONIA))
_SPLIT_WORDS = {word: split for split, words in _SPLITS.items() for word in _table(words)}
_SUBTYPE_WORDS = {word: subtype for subtype, words in _SUBTYPES.items() for word in _table(words)}
_MASK_WORDS = _table(_MASKS)


@dataclass(frozen=True)
class Classes:
    """What the names of a data set's classes mean.

    Attributes:
        named: the user's words for `NORMAL` or `PNEUMONIA`; they replace the usual words for that class.
        other: how to treat images of neither class; by default they are an error.
    """

    named: Mapping[str, frozenset[str]] = field(default_factory=dict)
    other: Other | None = None

    @classmethod
    def of(cls, classes: Mapping[str, str] | None = None, other: Other | None = None) -> Classes:
        """Create `Classes` from what a user gives, and check it.

        Args:
            classes: `NORMAL` or `PNEUMONIA`, in any letter case, for each of the data set's own words.
            other: as above.

        Raises:
            DatasetError: an unknown class or choice, or a word that is in both classes.

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
        """Return 0 for `NORMAL`, 1 for `PNEUMONIA`, None for another word.

        Several words may be separated by `|`: `PNEUMONIA` among them decides, and `NORMAL` counts only by itself.

        Example:
            >>> [Classes().label(word) for word in ("Normal", "PNEUMONIE", "1", "COVID", "Effusion|Pneumonia")]
            [0, 1, 1, None, 1]
        """
        if "|" in word:
            each = {self.label(part) for part in word.split("|")}
            return 1 if 1 in each else 0 if each == {0} else None
        if word.strip().startswith("-"):  # CheXpert's -1 is an uncertain label, not class 1
            return None
        meant = re.fullmatch(r"([01])\.0*|(true)|(false)", word := plain(word))
        if meant:  # what pandas writes for a column of 0 and 1
            word = meant[1] or ("1" if meant[2] else "0")
        word = re.sub(r"^\d+ (?=\D)", "", word)  # numbered folders: 0_normal, 1_pneumonia
        named = [label for label, name in enumerate(LABELS) if word in self.named.get(name, ())]
        usual = [label for label, name in enumerate(LABELS) if name not in self.named and word in _CLASS_WORDS[label]]
        return next(iter(named + usual), None)


def subtype(word: str) -> str | None:
    """Return `bacteria` or `virus` if the name of a class says so.

    Example:
        >>> subtype("Viral Pneumonia"), subtype("PNEUMONIA")
        ('virus', None)
    """
    return next((_SUBTYPE_WORDS[part] for part in plain(word).split() if part in _SUBTYPE_WORDS), None)


def split(word: str) -> str | None:
    """Return `train`, `val` or `test`; None for another word.

    Example:
        >>> [split(word) for word in ("Testing", "dev", "eval", "fold1")]
        ['test', 'val', 'test', None]
    """
    return _SPLIT_WORDS.get(plain(word))


def is_masks(word: str) -> bool:
    """Return whether the last word of a folder's name means that it holds masks or other annotations, not radiographs.

    Example:
        >>> [is_masks(word) for word in ("lung masks", "ManualMask", "images")]
        [True, True, False]
    """
    word = plain(word)
    return word.endswith(("mask", "masks")) or f" {word}".endswith(tuple(f" {one}" for one in _MASK_WORDS))


def view(word: str) -> str | None:
    """Return `AP`, `PA` or `lateral`; an empty string if the word does not say, None if it is not a known view.

    Example:
        >>> [view(word) for word in ("pa", "AP SUPINE", "LL", "", "Waters")]
        ['PA', 'AP', 'lateral', '', None]
    """
    word = plain(word)
    return "" if word in _NO_VIEW else _VIEWS.get(word.split()[0])
