"""`dataset`: every layout gives the same films, and a patient is on one side of a split only."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pneumoscope.dataset import (
    LABELS,
    Decoded,
    Film,
    decode,
    folds,
    hold_out,
    labels,
    load,
    patient_of,
    picture_key,
)
from pneumoscope.errors import DatasetError, NotFoundError, UnreadableError, UnsupportedError
from tests.conftest import SIZE, drawn_film

pytestmark = pytest.mark.filterwarnings("error")

CALM = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The same examples every time, on a busy machine too."""


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(films: list[Film], root: Path) -> list[tuple[str, int, str | None]]:
    return [(film.path.relative_to(root).as_posix(), film.label, film.split) for film in films]


# Folders


@pytest.mark.parametrize(
    ("normal", "pneumonia"), [("NORMAL", "PNEUMONIA"), ("normal", "pneumonia"), ("Normal", "pNEUMONIA"), ("0", "1")]
)
def test_class_folders_are_known_in_any_letter_case(tmp_path: Path, normal: str, pneumonia: str) -> None:
    touch(tmp_path, f"{normal}/b.png", f"{normal}/a.png", f"{pneumonia}/deep/c.png", "readme.txt", ".git/x")
    assert listed(load(tmp_path), tmp_path) == [
        (f"{normal}/a.png", 0, None),
        (f"{normal}/b.png", 0, None),
        (f"{pneumonia}/deep/c.png", 1, None),
    ]
    assert load(str(tmp_path)) == load(tmp_path)


@pytest.mark.parametrize(
    ("train", "val", "test"), [("train", "val", "test"), ("Train", "VAL", "Test"), ("training", "validation", "TEST")]
)
def test_the_kaggle_layout_is_known_in_any_letter_case(tmp_path: Path, train: str, val: str, test: str) -> None:
    names = [f"{split}/{kind}/a.jpeg" for split in (train, val, test) for kind in ("NORMAL", "pneumonia")]
    touch(tmp_path, *names)
    expected = [(name, i % 2, ("train", "val", "test")[i // 2]) for i, name in enumerate(names)]
    assert listed(load(tmp_path), tmp_path) == expected


def test_a_layout_may_lack_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png")
    assert [film.split for film in load(tmp_path)] == ["train", "train"]


def test_two_folders_of_one_split_or_class_are_both_listed(tmp_path: Path) -> None:
    touch(tmp_path, "val/NORMAL/a.png", "valid/NORMAL/b.png", "Validation/pneumonia/c.png", "Val/PNEUMONIA/d.png")
    touch(tmp_path, "train/normal/e.png", "train/Normal/f.png")
    if len(list(tmp_path.iterdir())) < 5:
        pytest.skip("this file system takes Val and val for one")
    assert Counter(film.split for film in load(tmp_path)) == {"train": 2, "val": 4}
    assert sorted(film.path.name[0] for film in load(tmp_path)) == list("abcdef")


def test_a_folder_around_the_data_set_does_not_matter(tmp_path: Path) -> None:
    touch(tmp_path, "archive/chest_xray/train/NORMAL/a.png", "archive/chest_xray/train/PNEUMONIA/b.png")
    touch(tmp_path, "archive/__MACOSX/x", "archive/.cache/y", "archive/licence.txt")
    assert [film.path.name for film in load(tmp_path)] == ["a.png", "b.png"]


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/.hidden")
    with pytest.raises(DatasetError, match=r"Expected films of class PNEUMONIA in '.*PNEUMONIA', got an empty folder"):
        load(tmp_path)


def test_one_class_alone_is_no_data_set_and_the_other_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/a.png", "NORMAL/b.png", "COVID/c.png")
    with pytest.raises(DatasetError, match=r"both classes in '.*', got 2 of NORMAL and none of PNEUMONIA"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "no folders"),
        (["a.png", "b.png"], "no folders"),
        (["cats/a.png", "dogs/b.png"], "cats, dogs"),
        (["all/a.png"], "no folders"),
        (["train/a.png", "test/b.png"], "no films"),
    ],
)
def test_an_unknown_layout_says_what_it_found_and_what_is_expected(
    tmp_path: Path, names: list[str], found: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        load(touch(tmp_path, *names))
    assert found in str(caught.value)
    for expected in ("DATA/NORMAL/*.jpeg", "DATA/train/NORMAL/*.jpeg", "path,label", "pneumoniamnist_224.npz"):
        assert expected in str(caught.value)


def test_what_does_not_exist_or_is_no_data_set_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Expected a data set at '.*nowhere', which does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"Got the file '.*film\.png', which is no data set\. Expected one of"):
        load(touch(tmp_path, "film.png") / "film.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_or_table_that_may_not_be_opened_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    touch(tmp_path, "films.csv")
    (tmp_path / "films.csv").chmod(0)
    for name in ("closed", "films.csv"):
        with pytest.raises(DatasetError, match=f"{name}' cannot be read .*check its permissions"):
            load(tmp_path / name)


# Tables


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "films.CSV"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_of_paths_and_labels_is_a_data_set(tmp_path: Path, encoding: str, end: str) -> None:
    lines = [
        " Path , LABEL,note,Patient,split",
        "a.png,normal,,Müller,train",
        "",
        'sub/"b, c".png,PNEUMONIA,x, p2 ,Validation'.replace('sub/"b, c".png', '"sub/b, c.png"'),
        f"{tmp_path}/d.png,0,,,TEST",
        "person7_virus_3.jpeg,1",
    ]
    films = load(table(tmp_path, end.join(lines), encoding))
    assert films == [
        Film(tmp_path / "a.png", 0, "Müller", "train"),
        Film(tmp_path / "sub/b, c.png", 1, "p2", "val"),
        Film(tmp_path / "d.png", 0, str(tmp_path / "d.png"), "test"),
        Film(tmp_path / "person7_virus_3.jpeg", 1, "person7_virus", None, "virus"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected columns path,label.* got none"),
        ("file,label\na.png,0", "Expected columns path,label.* got file,label"),
        ("path;label\na.png;0", "got path;label"),
        ("path,label\na.png,COVID", "NORMAL or PNEUMONIA .* line 2, got 'COVID'"),
        ("path,label\na.png,0\nb.png,1\nc.png", "NORMAL or PNEUMONIA .* line 4, got ''"),
        ("path,label\n\n\na.png,2", "line 4, got '2'"),
        ("path,label\n,1", "Expected the path of a film .* line 2, got none"),
        ("label,path\n1", "Expected the path of a film .* line 2"),
        ("path,label,split\na.png,1,holdout", "train, val or test as split .* line 2, got 'holdout'"),
        ("path,label\n", "Got no films"),
        ("path,label\na.png,0\nb.png,NORMAL", "got 2 of NORMAL and none of PNEUMONIA"),
        ("path,label\n" + "x" * 200_000 + ",1", "that cannot be read .*field larger"),
    ],
)
def test_a_table_with_a_mistake_says_where_and_what_is_expected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(table(tmp_path, text))


def test_a_table_in_another_encoding_is_said_so(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,patient\na.png,0,Müller\nb.png,1,x", "latin-1")
    with pytest.raises(DatasetError, match=r"Expected a CSV file in UTF-8 at '.*', got .* save it as"):
        load(path)


# Archives


def archive(folder: Path, **arrays: Any) -> Path:
    path = folder / "pneumoniamnist.npz"
    np.savez(path, **arrays)
    return path


def test_an_archive_of_medmnist_is_a_data_set(tmp_path: Path) -> None:
    pictures = {split: np.stack([drawn_film(i % 2, seed) for i in range(4)]) for seed, split in enumerate("ab")}
    path = archive(
        tmp_path,
        test_images=pictures["b"],
        test_labels=np.array([[0], [1], [0], [1]], dtype=np.uint8),
        train_images=pictures["a"],
        train_labels=np.array([[0], [1], [0], [1]], dtype=np.uint8),
    )
    films = load(path)
    assert [film.split for film in films] == ["train"] * 4 + ["test"] * 4
    assert labels(films).tolist() == [0, 1] * 4
    assert len({film.patient for film in films}) == 8
    assert films[5].path == Path(f"{path}#test/1")
    decoded = decode(films, SIZE)
    assert np.abs(decoded.pixels[4:] - pictures["b"] / 255).max() < 0.001


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": np.zeros((2, 8, 8))}, "got one that cannot be read .*train_labels"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.zeros(3)}, "got one that cannot be read"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.array([0, 8])}, "labels 0 and 1 .*PneumoniaMNIST"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.zeros(2)}, "got 2 of NORMAL and none of PNEUMONIA"),
        ({"train_images": np.array([None]), "train_labels": np.zeros(1)}, "got one that cannot be read .*pickle"),
        ({"pictures": np.zeros(2)}, "Got no films"),
    ],
)
def test_an_archive_of_something_else_is_said_so(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(archive(tmp_path, **arrays))


def test_a_damaged_archive_is_said_so(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    path = archive(tmp_path, train_images=pictures, train_labels=np.arange(20) % 2)
    assert len(load(path)) == 20
    whole = path.read_bytes()
    for data in (b"", b"no archive", whole[: len(whole) // 2], whole[:500] + bytes(500) + whole[1000:]):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match="got one that cannot be read"):
            load(path)


# Patients


@pytest.mark.parametrize(
    ("name", "patient", "subtype"),
    [
        ("person1_bacteria_1.jpeg", "person1_bacteria", "bacteria"),
        ("person1_bacteria_2.jpeg", "person1_bacteria", "bacteria"),
        ("person1_virus_6.jpeg", "person1_virus", "virus"),
        ("person1946_bacteria_4874.jpeg", "person1946_bacteria", "bacteria"),
        ("IM-0115-0001.jpeg", "IM-0115", None),
        ("IM-0656-0001-0002.jpeg", "IM-0656", None),
        ("NORMAL2-IM-0587-0001.jpeg", "NORMAL2-IM-0587", None),
        ("NORMAL2-IM-1440-0001.jpeg", "NORMAL2-IM-1440", None),
        ("BACTERIA-1008087-0001.jpeg", "BACTERIA-1008087", "bacteria"),
        ("VIRUS-1005021-0002.jpeg", "VIRUS-1005021", "virus"),
        ("NORMAL-1003233-0001.jpeg", "NORMAL-1003233", None),
        ("person1.jpeg", None, None),
        ("film.png", None, None),
        ("", None, None),
    ],
)
def test_kermanys_names_tell_patient_and_subtype(name: str, patient: str | None, subtype: str | None) -> None:
    assert patient_of(name) == (patient, subtype)


def test_a_film_that_names_no_patient_is_a_patient_of_its_own(tmp_path: Path) -> None:
    films = load(touch(tmp_path, "NORMAL/a.png", "PNEUMONIA/a.png", "PNEUMONIA/b.png"))
    assert len({film.patient for film in films}) == 3


def test_a_normal_film_has_no_subtype_whatever_its_name_says(tmp_path: Path) -> None:
    films = load(touch(tmp_path, "NORMAL/person1_virus_6.jpeg", "PNEUMONIA/person1_virus_7.jpeg"))
    assert [(film.patient, film.subtype) for film in films] == [("person1_virus", None), ("person1_virus", "virus")]


# Reading


def test_films_are_read_once_in_order_and_squashed(draw_folder: Callable[..., Path]) -> None:
    films = load(draw_folder(3, 2))
    called: list[None] = []
    decoded = decode(films, 16, progress=lambda: called.append(None))
    assert decoded.films == films
    assert decoded.pixels.shape == (5, 16, 16)
    assert decoded.pixels.dtype == np.float16
    assert decoded.labels.tolist() == [0, 0, 0, 1, 1]
    assert decoded.failures == []
    assert len(called) == 5
    whole = decode(films, SIZE).pixels
    for film, pixels in zip(films, whole, strict=True):
        assert np.abs(np.asarray(Image.open(film.path)) / 255 - pixels).max() < 0.001


def test_a_film_that_cannot_be_read_is_listed_with_its_reason(draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(3, 3)
    films = load(folder)
    films[1].path.write_bytes(b"")
    films[3].path.write_bytes(films[3].path.read_bytes()[:100])
    films[4].path.unlink()
    films.append(Film(touch(folder, "notes.txt") / "notes.txt", 1, "p"))
    films[-1].path.write_text("no film")
    called: list[None] = []
    decoded = decode(films, 16, progress=lambda: called.append(None))
    assert decoded.films == [films[0], films[2], films[5]]
    assert decoded.pixels.shape == (3, 16, 16)
    assert decoded.groups.shape == (3,)
    assert [(film, type(error)) for film, error in decoded.failures] == [
        (films[1], UnreadableError),
        (films[3], UnreadableError),
        (films[4], NotFoundError),
        (films[6], UnsupportedError),
    ]
    assert len(called) == 7


def test_no_films_are_an_empty_data_set() -> None:
    decoded = decode([], 16)
    assert decoded.pixels.shape == (0, 16, 16)
    assert decoded.groups.shape == (0,)


def test_films_may_be_taken_by_position() -> None:
    decoded = decode([film(i % 2, f"p{i}", i) for i in range(5)], 16)
    taken = decoded.take(np.array([4, 0]))
    assert taken.films == [decoded.films[4], decoded.films[0]]
    assert np.array_equal(taken.pixels, decoded.pixels[[4, 0]])
    assert np.array_equal(taken.groups, decoded.groups[[4, 0]])


def test_the_fingerprint_is_of_content_and_label_not_of_name_and_order() -> None:
    films = [film(i % 2, f"p{i}", i) for i in range(6)]
    renamed = [film(i % 2, f"other{i}", i) for i in reversed(range(6))]
    relabelled = [replace(one, label=1) for one in films]
    prints = [decode(some, 16).fingerprint() for some in (films, renamed, relabelled, films[:5])]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


# Groups


def film(label: int, patient: str, seed: int) -> Film:
    """A drawn film; equal seeds and labels give equal pictures."""
    return Film(Path(f"{patient}-{seed}"), label, patient, pixels=drawn_film(label, seed))


def together(decoded: Decoded) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(decoded.groups == group).tolist()) for group in decoded.groups}


def test_films_of_one_patient_are_one_group() -> None:
    decoded = decode([film(0, "a", 1), film(0, "b", 2), film(1, "a", 3)], 16)
    assert together(decoded) == {frozenset({0, 2}), frozenset({1})}


def test_identical_pictures_under_different_names_are_one_group(draw_folder: Callable[..., Path]) -> None:
    folder = draw_folder(3, 3)
    copy = folder / "PNEUMONIA" / "copy.png"
    copy.write_bytes((folder / "PNEUMONIA" / "pneumonia001.png").read_bytes())
    decoded = decode(load(folder), 16)
    pairs = [{decoded.films[i].path.name for i in group} for group in together(decoded) if len(group) > 1]
    assert pairs == [{"copy.png", "pneumonia001.png"}]
    assert picture_key(decoded.pixels[3]) == picture_key(decoded.pixels[5])


def test_links_between_patients_reach_through_identical_pictures() -> None:
    chain = [film(0, "a", 1), film(0, "b", 1), film(0, "b", 2), film(0, "c", 2), film(0, "c", 3), film(0, "d", 4)]
    assert together(decode(chain, 16)) == {frozenset(range(5)), frozenset({5})}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
@settings(CALM, max_examples=100)
def test_groups_are_the_smallest_sets_closed_under_patient_and_picture(pairs: list[tuple[int, int]]) -> None:
    decoded = decode([film(0, f"p{patient}", picture) for patient, picture in pairs], 8)
    reached = np.array([[a == c or b == d for c, d in pairs] for a, b in pairs]).reshape(len(pairs), len(pairs))
    for _ in pairs:
        reached = reached @ reached
    assert np.array_equal(decoded.groups[:, None] == decoded.groups, reached)


# Splits


def grouped(groups: list[tuple[int, int]]) -> Decoded:
    """Films of the given (label, size) groups, without pictures: a split looks at labels and groups only."""
    films = [Film(Path(f"{i}-{j}"), label, str(i)) for i, (label, size) in enumerate(groups) for j in range(size)]
    numbers = np.repeat(np.arange(len(groups)), [size for _, size in groups])
    return Decoded(films, np.zeros((len(films), 1, 1), dtype=np.float16), numbers, [])


GROUPS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=0, max_size=30).map(
    lambda some: [(0, 1), (1, 1)] * 3 + some
)


@given(GROUPS, st.integers(2, 3), st.integers(0, 99))
@settings(CALM, max_examples=100)
def test_folds_keep_groups_whole_and_hold_every_film_out_once(groups: list[tuple[int, int]], n: int, seed: int) -> None:
    decoded = grouped(groups)
    parts = folds(decoded, n, seed)
    assert len(parts) == n
    assert np.array_equal(np.sort(np.concatenate([held_out for _, held_out in parts])), np.arange(len(decoded.films)))
    for training, held_out in parts:
        assert np.array_equal(np.sort(np.concatenate([training, held_out])), np.arange(len(decoded.films)))
        assert np.all(np.diff(training) > 0)
        assert np.all(np.diff(held_out) > 0)
        assert not set(decoded.groups[training]) & set(decoded.groups[held_out])
        assert set(decoded.labels[training]) == set(decoded.labels[held_out]) == {0, 1}


def many() -> Decoded:
    rng = np.random.default_rng(0)
    return grouped([(int(i % 4 > 0), int(rng.integers(1, 12))) for i in range(400)])


def test_the_share_of_pneumonias_is_the_same_in_every_fold() -> None:
    decoded = many()
    share = decoded.labels.mean()
    for training, held_out in folds(decoded, 5, seed=1):
        assert decoded.labels[training].mean() == pytest.approx(share, abs=0.01)
        assert decoded.labels[held_out].mean() == pytest.approx(share, abs=0.03)
        assert len(held_out) == pytest.approx(len(decoded.films) / 5, rel=0.1)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 0.5])
def test_the_share_held_out_is_the_one_asked_for(fraction: float) -> None:
    training, held_out = hold_out(many(), fraction, seed=0)
    assert len(held_out) / (len(training) + len(held_out)) == pytest.approx(fraction, abs=0.02)


def test_equal_seeds_give_equal_splits_and_different_ones_different() -> None:
    decoded = many()
    first, again, other = (hold_out(decoded, 0.2, seed)[1] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for one, two in zip(folds(decoded, 4, 7), folds(decoded, 4, 7), strict=True):
        assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("label", [0, 1])
def test_too_few_patients_of_a_class_are_said_so(label: int) -> None:
    decoded = grouped([(1 - label, 1)] * 20 + [(label, 10)] * 4)
    with pytest.raises(DatasetError, match=f"at least 5 patients of class {LABELS[label]} for this split, got 4: give"):
        hold_out(decoded, 0.2, seed=0)
    assert len(folds(decoded, 4, seed=0)) == 4


# Real films


@pytest.fixture(scope="module")
def kermany(data: Path) -> Decoded:
    return decode(load(data / "kermany224" / "train"), 64)


@pytest.mark.films
def test_kermanys_training_films_are_all_there(kermany: Decoded, data: Path) -> None:
    assert len(kermany.films) == 5216
    assert kermany.failures == []
    assert np.bincount(kermany.labels).tolist() == [1341, 3875]
    assert Counter(film.subtype for film in kermany.films if film.label) == {"bacteria": 2530, "virus": 1345}
    assert {film.split for film in load(data / "kermany224")} == {"train", "val"}


@pytest.mark.films
def test_kermanys_28_pairs_of_identical_pictures_share_their_groups(kermany: Decoded) -> None:
    same = defaultdict(list)
    for i, pixels in enumerate(kermany.pixels):
        same[picture_key(pixels)].append(i)
    pairs = [found for found in same.values() if len(found) > 1]
    assert sum(math.comb(len(found), 2) for found in pairs) == 28
    for found in pairs:
        assert len(set(kermany.groups[found])) == 1


@pytest.mark.films
def test_no_patient_and_no_picture_of_kermanys_is_on_both_sides(kermany: Decoded) -> None:
    for training, held_out in [hold_out(kermany, 0.15, seed=0), *folds(kermany, 3, seed=1)]:
        assert not {kermany.films[i].patient for i in training} & {kermany.films[i].patient for i in held_out}
        assert not {picture_key(kermany.pixels[i]) for i in training} & {
            picture_key(kermany.pixels[i]) for i in held_out
        }
        assert kermany.labels[held_out].mean() == pytest.approx(kermany.labels.mean(), abs=0.01)
