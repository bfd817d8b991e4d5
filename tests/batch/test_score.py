"""Scoring by processes of this machine and on a real cluster: nothing lost and nothing twice, whatever is killed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="the cluster's extra is not installed")

import pyarrow as pa
import ray
from pyarrow import parquet
from ray.cluster_utils import Cluster

from pneumoscope import Detector
from pneumoscope.batch import manifest
from pneumoscope.batch import output as archive
from pneumoscope.batch import score as many
from pneumoscope.batch.output import Archive
from pneumoscope.batch.scorer import Scorer
from pneumoscope.batch.storage import Place, Reader
from pneumoscope.errors import (
    ClusterError,
    DatasetError,
    NotFoundError,
    PneumoscopeError,
    StorageError,
    UnsupportedError,
)
from pneumoscope.inference import model_file
from tests.conftest import drawn_image

MAIN = "from pneumoscope.cli.main import main; main()"
SMALL_SHARDS = 8
"""Images a shard in these tests, so that a few hundred images are many shards."""

QUICK: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster of a head without cores and one node with two; tests add nodes to kill them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **QUICK})
        started.add_node(num_cpus=2, **QUICK)
        yield started
        started.shutdown()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "IMAGES_A_SHARD", SMALL_SHARDS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 images in two folders, and six files that are none."""
    folder = tmp_path_factory.mktemp("archive")
    for i in range(240):
        path = folder / f"series{i % 2}" / f"image{i:03d}.png"
        path.parent.mkdir(exist_ok=True)
        if i < 60:
            enlarged = np.kron(drawn_image(i % 2, 90_000 + i), np.ones((12, 12), np.uint8))  # its noise stays
            Image.fromarray(enlarged).save(path)
        else:
            os.link(folder / f"series{i % 2}" / f"image{i % 60:03d}.png", path)
    whole = (folder / "series0" / "image000.png").read_bytes()
    broken = {
        "truncated.png": whole[: len(whole) // 2],
        "empty.png": b"",
        "note.txt": b"text",
        "spaces and ü.png": b"\x89PNG",
    }
    for name, data in broken.items():
        (folder / name).write_bytes(data)
    (folder / os.fsdecode(b"odd\xff.png")).write_bytes(whole)
    (folder / ".hidden.png").write_bytes(whole)
    (folder / "gone.png").symlink_to("nowhere")
    return folder


@pytest.fixture(scope="module")
def findings(images: Path, lenient_model: Path) -> dict[str, dict[str, Any]]:
    """What `predict` says of each image."""
    found = Detector(lenient_model).examine(os.fsdecode(name) for name, _ in manifest.images(Place.of(str(images))))
    return {manifest.text(os.fsencode(finding.path)): finding.as_dict() for finding in found}


@pytest.fixture(params=["processes", "ray"])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Of the cluster that does the work; None where processes of this machine do."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if request.param == "processes":
        return None
    nodes: Cluster = request.getfixturevalue("nodes")
    return str(nodes.address)


@pytest.fixture
def score(address: str | None, lenient_model: Path) -> Callable[..., many.Summary]:
    def run(source: Path | str, out: Path | str, **options: Any) -> many.Summary:
        return many.score(str(source), str(out), **{"model": lenient_model, "address": address} | options)

    return run


def rows_in(out: Path | str) -> list[dict[str, Any]]:
    place = Place.of(str(out))
    rows: list[dict[str, Any]] = parquet.read_table(place.path, filesystem=place.filesystem()).to_pylist()
    return rows


def check(rows: list[dict[str, Any]], findings: dict[str, dict[str, Any]]) -> None:
    """Each image is there once, with the finding that `predict` gives."""
    assert sorted(row["path"] for row in rows) == sorted(findings)
    for row in rows:
        expected = findings[row["path"]]
        error = expected["error"] or {"kind": None, "message": None}
        assert (row["error_kind"], row["error_message"]) == (error["kind"], error["message"])
        assert (row["finding"], row["uncertain"]) == (expected["finding"], expected["uncertain"])
        assert row["warnings"] == expected["warnings"]
        assert row["probability"] == pytest.approx(expected["probability"], abs=2e-6)


def once(action: Callable[[], None]) -> Callable[[int, int], None]:
    """Do something when the first shard is there."""
    done: list[bool] = []

    def progress(scored: int, total: int) -> None:
        if 0 < scored < total and not done:
            done.append(True)
            action()

    return progress


def workers(address: str | None) -> list[int]:
    """The processes that predict images."""
    if address is None:
        return [process.pid for process in multiprocessing.active_children() if process.pid]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_each_image_has_one_row_with_predicts_finding_and_broken_ones_an_error(
    score: Callable[..., many.Summary], images: Path, findings: dict[str, Any], tmp_path: Path
) -> None:
    summary = score(images, tmp_path / "out")
    rows = rows_in(tmp_path / "out")
    check(rows, findings)
    broken = {Path(row["path"]).name for row in rows if row["error_kind"]}
    assert broken == {"truncated.png", "empty.png", "note.txt", "spaces and ü.png", "gone.png"}
    assert (summary.images, summary.scored, summary.skipped, summary.errors) == (246, 246, 0, 5)
    assert all((row["sha256"] is None) == (row["error_kind"] == "not_found") for row in rows)
    assert {row["model"] for row in rows} == {summary.model}
    assert any(row["path"].endswith("odd\\xff.png") for row in rows)


def test_images_predicted_before_are_skipped_and_new_and_changed_ones_are_not(
    score: Callable[..., many.Summary], images: Path, tmp_path: Path
) -> None:
    some = tmp_path / "images"
    shutil.copytree(images / "series0", some)
    score(some, tmp_path / "out")
    before = {row["path"]: row for row in rows_in(tmp_path / "out")}
    unchanged = score(some, tmp_path / "out")
    assert (unchanged.scored, unchanged.skipped) == (0, 120)
    shutil.copy(images / "series1" / "image001.png", some / "image000.png")
    shutil.copy(images / "series1" / "image001.png", some / "new.png")
    again = score(some, tmp_path / "out")
    assert (again.scored, again.skipped) == (2, 119)
    after = {row["path"]: row for row in rows_in(tmp_path / "out")}
    assert len(rows_in(tmp_path / "out")) == len(after) == 121
    assert {path for path in before if before[path] != after[path]} == {str(some / "image000.png")}


def test_an_image_that_could_not_be_reached_is_tried_again() -> None:
    late: archive.Row = {"path": "a.png", "version": "", "sha256": None, "error_kind": "not_found"}
    broken = late | {"path": "b.png", "sha256": "f0", "error_kind": "unreadable"}
    large = late | {"path": "c.png", "error_kind": "too_large"}
    listed = [(b"a.png", ""), (b"b.png", ""), (b"c.png", "")]
    assert archive.unscored(listed, {row["path"]: row for row in (late, broken, large)}) == listed[:1]


@pytest.mark.parametrize("address", ["ray"], indirect=True)
def test_a_node_that_is_killed_costs_no_image(
    nodes: Cluster,
    score: Callable[..., many.Summary],
    images: Path,
    findings: dict[str, Any],
    tmp_path: Path,
) -> None:
    doomed = nodes.add_node(num_cpus=2, **QUICK)

    def kill() -> None:
        os.kill(doomed.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    summary = score(images, tmp_path / "out", progress=once(kill))
    nodes.remove_node(doomed)
    check(rows_in(tmp_path / "out"), findings)
    assert summary.scored == 246


def test_a_worker_that_is_killed_costs_no_image(
    score: Callable[..., many.Summary], address: str | None, images: Path, findings: dict[str, Any], tmp_path: Path
) -> None:
    killed = []

    def kill() -> None:
        killed.extend(workers(address)[:1])
        os.kill(killed[0], signal.SIGKILL)

    score(images, tmp_path / "out", progress=once(kill))
    assert killed
    check(rows_in(tmp_path / "out"), findings)


def test_a_driver_that_is_killed_and_started_again_ends_like_an_unbroken_run(
    score: Callable[..., many.Summary],
    address: str | None,
    images: Path,
    findings: dict[str, Any],
    lenient_model: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    program = f"from pneumoscope.batch import manifest; manifest.IMAGES_A_SHARD = {SMALL_SHARDS}; {MAIN}"
    arguments = ["score", images, "--out", out, "--model", lenient_model, "--workers", "1"]
    arguments += ["--address", address] if address else []
    with subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE) as driver:
        deadline = time.monotonic() + 300  # Ray starts slowly where there is little processor time
        while len(list(out.glob("part-*"))) < 3 and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.005)
        driver.kill()
        assert driver.communicate()[0] == b""
    scored = sum(len(parquet.read_table(path)) for path in out.glob("part-*"))
    assert 0 < scored < 246
    summary = score(images, out)
    assert summary.skipped > 0
    check(rows_in(out), findings)


@pytest.mark.parametrize("options", [[], pytest.param(["--ray"], marks=pytest.mark.long)])
def test_the_command_says_in_one_line_of_json_what_came_of_it(
    options: list[str], nodes: Cluster, images: Path, lenient_model: Path, tmp_path: Path
) -> None:
    arguments = ["score", images / "note.txt", "--out", tmp_path / "out", "--model", lenient_model, "--workers", "1"]
    command = [sys.executable, "-m", "pneumoscope", *map(str, arguments), *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # with Ray on a cluster of its own
    assert run.returncode == 3
    summary = json.loads(run.stdout)
    assert (summary["images"], summary["scored"], summary["errors"]) == (1, 1, 1)
    assert run.stderr == "predicting images: 1 of 1\n"


@pytest.mark.parametrize(("missing", "options", "extra"), [("pyarrow", [], "score"), ("ray", ["--ray"], "cluster")])
def test_without_the_extra_the_command_says_what_to_install(
    missing: str, options: list[str], extra: str, tmp_path: Path
) -> None:
    program = f"import sys; sys.modules['{missing}'] = None; {MAIN}"
    command = [sys.executable, "-c", program, "score", str(tmp_path), "--out", str(tmp_path / "out"), *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"pip install '.[{extra}]'" in run.stderr


def test_one_machine_needs_no_ray(images: Path, lenient_model: Path, tmp_path: Path) -> None:
    program = f"import sys; sys.modules['ray'] = None; {MAIN}"
    arguments = ["score", images / "series0" / "image000.png", "--out", tmp_path / "out", "--model", lenient_model]
    run = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, check=False)
    assert run.returncode == 0
    assert [row["finding"] is not None for row in rows_in(tmp_path / "out")] == [True]


def test_a_cluster_that_the_environment_names_is_asked(
    images: Path, lenient_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ClusterError, match="auto"):
        many.score(str(images), str(tmp_path / "out"), model=lenient_model)


class Doomed(Scorer):
    """A worker that one image ends."""

    def predict(self, listed: Iterable[manifest.Listed]) -> Iterator[archive.Row]:
        for image in listed:
            if image[0].endswith(b"image002.png"):
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().predict([image])


def test_an_image_that_ends_each_process_that_reads_it_costs_no_other(
    images: Path, findings: dict[str, Any], lenient_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(many, "Scorer", Doomed)
    summary = many.score(str(images / "series0"), str(tmp_path / "out"), model=lenient_model, workers=2)
    rows = {row["path"]: row for row in rows_in(tmp_path / "out")}
    lost = str(images / "series0" / "image002.png")
    assert rows.pop(lost)["error_kind"] == archive.LOST
    check(list(rows.values()), {p: f for p, f in findings.items() if "series0" in p and p != lost})
    assert (summary.images, summary.errors) == (120, 1)


def test_workers_that_cannot_start_are_told_of(
    images: Path, lenient_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", out_of_processes)
    with pytest.raises(ClusterError, match="no process could be started"):
        many.score(str(images / "series0"), str(tmp_path / "out"), model=lenient_model)


def out_of_processes(_: object) -> None:
    raise BlockingIOError


def test_globs_and_manifests_name_images(images: Path, tmp_path: Path) -> None:
    def names(source: Path | str) -> list[str]:
        return sorted(os.fsdecode(name) for name, _ in manifest.images(Place.of(str(source))))

    first = sorted(str(path) for path in (images / "series1").iterdir())
    assert (
        names(images / "series1") == names(images / "series1" / "*.png") == names(images / "**" / "image??[13579].png")
    )
    assert names(images / "series1") == first
    parquet.write_table(pa.table({"path": first[:3], "version": ["a", "b", None]}), tmp_path / "some.parquet")
    assert [version for _, version in manifest.images(Place.of(str(tmp_path / "some.parquet")))][:2] == ["a", "b"]
    assert names(tmp_path / "some.parquet") == first[:3]
    assert names(images / "series1" / "image001.png") == first[:1]


def test_an_image_stays_in_its_shard_whatever_else_is_listed(tmp_path: Path) -> None:
    names = [f"/images/{i}.png".encode() for i in range(500)]
    (tmp_path / "other").mkdir()
    one, other = manifest.Listing(tmp_path), manifest.Listing(tmp_path / "other")
    one.add((name, "") for name in names)
    other.add((name, "") for name in [*reversed(names[::2]), b"/images/new.png", names[0]])
    assert (one.count, other.count) == (500, 251)
    shards = [{name for name, _ in one.shard(number, 16)} for number in range(16)]
    assert sum(map(len, shards)) == 500
    for number, shard in enumerate(shards):
        assert {name for name, _ in other.shard(number, 16)} - {b"/images/new.png"} == shard & set(names[::2])


def test_an_image_that_ends_the_process_becomes_a_row_with_an_error(
    images: Path, lenient_model: Path, tmp_path: Path
) -> None:
    """The third try writes each image down as lost before predicting it: what the process that ended has left."""
    output = Archive(Place.of(str(tmp_path / "out")))
    output.begin({"model": "f0", "shards": 1})
    scorer = Scorer(lenient_model.read_bytes(), "f0", "openvino", output, Reader(Place.of(str(images))))
    listed = [(os.fsencode(path), "1-1") for path in sorted((images / "series0").iterdir())[:4]]
    predicted = {row["path"]: row for row in scorer.predict(listed)}
    culprit = manifest.text(listed[1][0])
    lost = predicted[culprit] | {"sha256": None, "finding": None, "error_kind": archive.LOST, "error_message": "ended"}
    first = manifest.text(listed[0][0])
    output.write(0, [predicted[first], lost])
    assert scorer.do(0, listed, careful=True) == 2
    rows = output.rows(0)
    assert {path: row["error_kind"] for path, row in rows.items()} == dict.fromkeys(predicted) | {culprit: archive.LOST}
    assert archive.unscored(listed, rows) == [listed[1]]  # the next run tries it again


def test_half_a_file_is_as_good_as_none(tmp_path: Path) -> None:
    output = Archive(Place.of(str(tmp_path / "out")))
    row = {"path": "a.png", "sha256": "f0", "finding": "NORMAL", "warnings": []}
    output.write(3, [row])
    assert output.rows(3)["a.png"]["finding"] == "NORMAL"
    path = tmp_path / "out" / archive.name(3, 1)
    path.write_bytes(path.read_bytes()[:100])
    assert output.rows(3) == {}


def test_an_output_begun_with_few_images_is_cut_anew_for_many(tmp_path: Path) -> None:
    output = Archive(Place.of(str(tmp_path)))
    output.begin({"shards": 2})
    names = {f"/images/{i}.png" for i in range(50)}
    for shard in range(2):
        output.write(shard, [{"path": name} for name in names if manifest.shard_of(name, 2) == shard])
    output.recut({"shards": 16})
    assert sorted(row["path"] for row in rows_in(tmp_path)) == sorted(names)
    again = Archive(Place.of(str(tmp_path)))
    again.shards = int((again.settings() or {})["shards"])
    for shard in range(16):
        assert set(again.rows(shard)) == {name for name in names if manifest.shard_of(name, 16) == shard}


def test_a_recut_that_was_broken_off_leaves_no_image_twice(tmp_path: Path) -> None:
    output = Archive(Place.of(str(tmp_path)))
    output.begin({"shards": 1})
    output.write(0, [{"path": "a.png"}, {"path": "b.png"}])
    finer = Archive(Place.of(str(tmp_path)))
    finer.shards = 16
    finer.write(manifest.shard_of("a.png", 16), [{"path": "a.png"}])  # killed here
    output.tidy()
    assert sorted(row["path"] for row in rows_in(tmp_path)) == ["a.png", "b.png"]


@pytest.mark.parametrize("address", ["processes"], indirect=True)
def test_an_output_of_another_model_is_rejected_before_any_work(
    images: Path, lenient_model: Path, tmp_path: Path, score: Callable[..., many.Summary]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / archive.SETTINGS).write_text(
        '{"format": 1, "model": "0000", "engine": "openvino", "shards": 1}'
    )
    with pytest.raises(StorageError, match="same model"):
        score(images, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("address", ["processes"], indirect=True)
def test_an_output_of_another_engine_is_rejected_and_both_are_named(
    images: Path, lenient_model: Path, tmp_path: Path, score: Callable[..., many.Summary]
) -> None:
    (tmp_path / "out").mkdir()
    made = {"format": 1, "model": hashlib.sha256(lenient_model.read_bytes()).hexdigest(), "engine": "openvino-bf16"}
    (tmp_path / "out" / archive.SETTINGS).write_text(json.dumps(made | {"shards": 1}))
    with pytest.raises(StorageError, match=r"same engine .* \(openvino-bf16, not openvino\)"):
        score(images, tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "out", "options", "error"),
    [
        ("nowhere", "out", {}, NotFoundError),
        ("empty", "out", {}, DatasetError),
        ("empty/images.parquet", "out", {}, DatasetError),
        ("ftp://images", "out", {}, UnsupportedError),
        ("s3://", "out", {}, UnsupportedError),
        ("s3://images?colour=red", "out", {}, UnsupportedError),
        ("series0", "series0/out", {}, UnsupportedError),
        ("series0", "series1", {}, StorageError),
        ("series0", "note.txt", {}, UnsupportedError),
        ("series0", "out", {"address": "127.0.0.1:9"}, ClusterError),
        ("series0", "out", {"address": "ray://127.0.0.1:9"}, ClusterError),
        ("series0", "out", {"address": "somewhere"}, UnsupportedError),
        ("series0", "out", {"address": "auto"}, ClusterError),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    source: str,
    out: str,
    options: dict[str, Any],
    error: type[PneumoscopeError],
    images: Path,
    lenient_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if options:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    (tmp_path / "empty").mkdir()
    for name in ("series0", "series1", "note.txt"):
        (tmp_path / name).symlink_to(images / name)
    if source.endswith(".parquet"):
        parquet.write_table(pa.table({"image": ["a.png"]}), source)
    with pytest.raises(error):
        many.score(source, out, model=lenient_model, **options)
    assert not ray.is_initialized()
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def bucket(nodes: Cluster) -> Iterator[str]:
    """What comes behind the `?` of an address in an S3-compatible server on this machine with a bucket `images`."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = f"endpoint_override=http://{host}:{port}"
    store = Place.of(f"s3://images?{options}").filesystem()
    from pyarrow.fs import S3FileSystem

    S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True).create_dir("images")
    assert store
    yield options
    server.stop()


def test_images_in_a_bucket_are_predicted_into_a_bucket(
    bucket: str, score: Callable[..., many.Summary], images: Path, findings: dict[str, Any], tmp_path: Path
) -> None:
    store = Place.of(f"s3://images?{bucket}").filesystem()
    there = [*sorted((images / "series0").iterdir())[:20], images / "note.txt"]
    for path in there:
        with store.open_output_stream(f"images/in/{path.name}") as stream:
            stream.write(path.read_bytes())
    expected = {f"s3://images/in/{path.name}": findings[str(path)] for path in there}
    out = f"s3://images/out/all?{bucket}"
    summary = score(f"s3://images/in?{bucket}", out)
    assert (summary.scored, summary.errors) == (21, 1)
    check(rows_in(out), expected)
    assert score(f"s3://images/in?{bucket}", out).scored == 0
    assert score(f"s3://images/in/image*?{bucket}", out).images == 20


def test_a_manifest_in_a_bucket_names_images_beside_it_and_in_others(bucket: str) -> None:
    place = Place.of(f"s3://images/images.parquet?{bucket}")
    with place.filesystem().open_output_stream(place.path) as stream:
        parquet.write_table(pa.table({"path": ["in/a.png", "s3://images/b?.png"]}), stream)
    assert list(manifest.images(place)) == [(b"s3://images/in/a.png", ""), (b"s3://images/b?.png", "")]
    with pytest.raises(NotFoundError, match="does not exist"):
        Reader(place).read(b"s3://images/b?.png")
    with place.filesystem().open_output_stream(place.path) as stream:
        parquet.write_table(pa.table({"path": ["s3://none/a.png"]}), stream)
    with pytest.raises(NotFoundError, match="bucket 'none'"):
        list(manifest.images(place))


@pytest.mark.parametrize("address", ["processes"], indirect=True)
def test_a_bucket_that_is_not_there_is_said_before_any_work(
    bucket: str, score: Callable[..., many.Summary], images: Path, tmp_path: Path
) -> None:
    for source, out in ((f"s3://none/in?{bucket}", tmp_path / "out"), (images, f"s3://none/out?{bucket}")):
        with pytest.raises(NotFoundError, match="bucket 'none'"):
            score(source, out)
    with pytest.raises(NotFoundError, match="s3://images/nothing"):
        score(f"s3://images/nothing?{bucket}", tmp_path / "out")


@pytest.mark.parametrize("address", ["processes"], indirect=True)
def test_missing_credentials_are_said_before_any_work(
    bucket: str,
    score: Callable[..., many.Summary],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError, match="credentials"):
        score(f"s3://images/in?{bucket}", tmp_path / "out")
    with pytest.raises(StorageError, match="credentials"):
        score(images, f"s3://images/out?{bucket}")


@pytest.mark.images
def test_real_images_have_predicts_findings(data: Path, tmp_path: Path) -> None:
    source = Place.of(str(data / "kermany_original" / "val"))
    model = model_file.default().read_bytes()
    scorer = Scorer(model, "f0", "openvino", Archive(Place.of(str(tmp_path))), Reader(source))
    listed = list(manifest.images(source))
    found = Detector().examine(os.fsdecode(name) for name, _ in listed)
    check(list(scorer.predict(listed)), {finding.path: finding.as_dict() for finding in found})
