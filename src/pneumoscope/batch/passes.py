"""Processes shards in passes on any runner: what is lost with a worker is repeated, so that no image is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, Protocol

from pneumoscope.batch import output
from pneumoscope.batch.manifest import Listed, Listing, text
from pneumoscope.batch.output import Archive
from pneumoscope.errors import ClusterError

WAVE = 1_000_000
"""The number of images passed to a runner at a time; Ray keeps their names in memory, some 150 MB."""

CAREFUL = 2
"""How often a shard may be lost before its images are tried one by one, to find the one that crashes the process."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and the total, of those that had no finding."""


class Shard(NamedTuple):
    """A part of the images, which is predicted by one worker.

    Attributes:
        number: the number of the shard.
        images: all its images, including those predicted earlier.
    """

    number: int
    images: list[Listed]


class Result(NamedTuple):
    """The result of a shard.

    Attributes:
        shard: the number of the shard.
        kind: the kind of error that stopped a worker; empty if there was none.
        reason: why the shard was not finished; empty if it was.
    """

    shard: int
    kind: str = ""
    reason: str = ""


class WorkersLostError(Exception):
    """A pass ended early; the message says why."""


class Runner(Protocol):
    """Processes shards on workers, in any order."""

    def __call__(self, shards: Iterable[Shard], careful: bool) -> Iterator[Result]:
        """Process shards, and yield the result of each, except those that were lost with a worker.

        Args:
            shards: the shards to process.
            careful: as in `Scorer.do`.

        Raises:
            WorkersLostError: there are no workers left for the rest.
        """


def run_all(listing: Listing, pending: Mapping[int, int], archive: Archive, run: Runner, progress: Progress) -> None:
    """Process all shards, in waves of at most `WAVE` images.

    Args:
        listing: the images.
        pending: the number of images without a finding, by shard.
        archive: the output.
        run: the runner.
        progress: called after each shard.

    Raises:
        ClusterError: some images could not be read by any worker.
    """
    total, done = sum(pending.values()), 0
    numbers = iter(pending)
    while wave := list(islice(numbers, max(1, WAVE * len(pending) // total))):
        left = {number: pending[number] for number in wave}

        def told(more: int, before: int = done) -> None:
            progress(before + more, total)

        done += sum(left.values())
        _run_wave(listing, left, archive, run, told)


def _run_wave(
    listing: Listing, left: dict[int, int], archive: Archive, run: Runner, progress: Callable[[int], None]
) -> None:
    """Process shards until none is left; those that are lost with a node or a worker are repeated."""
    total = sum(left.values())
    reason = "the workers were lost"
    attempt = 0
    progress(0)
    while left:
        careful = attempt >= CAREFUL
        before = _unpredicted(listing, left, archive) if careful else 0
        shards = (Shard(number, listing.shard(number, archive.shards)) for number in list(left))
        try:
            for result in run(shards, careful):
                if result.kind:
                    raise ClusterError(f"A worker could not continue ({result.kind}): {result.reason}")
                if result.reason:
                    reason = result.reason
                    continue
                left.pop(result.shard, None)
                progress(total - sum(left.values()))
        except WorkersLostError as error:
            reason = str(error)
        if careful and left and _unpredicted(listing, left, archive) >= before:
            raise ClusterError(
                f"{sum(left.values())} images could not be read ({reason}): the others are in the output. Start again, "
                "with fewer workers if memory is short."
            )
        attempt += 1


def _unpredicted(listing: Listing, numbers: Iterable[int], archive: Archive) -> int:
    """Count the images without a final row."""
    surveyed = output.surveyed(archive, listing, numbers)
    return sum(
        rows.get(text(name), {}).get("error_kind") != output.LOST
        for _, rows, listed in surveyed
        for name, _ in output.unscored(listed, rows)
    )
