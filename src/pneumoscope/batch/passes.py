"""Shards done in passes, whoever does them: what is lost with a worker is done again, and no image is given up on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, Protocol

from pneumoscope.batch import output
from pneumoscope.batch.manifest import Listed, Listing, text
from pneumoscope.batch.output import Archive
from pneumoscope.errors import ClusterError

WAVE = 1_000_000
"""Images whose names a runner is given at a time: some 150 MB where it keeps them in memory, as Ray does."""

CAREFUL = 2
"""How often a shard may be lost before its images are tried one by one, to find the one that ends the process."""

Progress = Callable[[int, int], None]
"""Told how many of the images that had no finding are done, and how many there are."""


class Shard(NamedTuple):
    """Some images, which one worker predicts.

    Attributes:
        number: of the shard.
        images: all that are listed in it, those that were predicted before among them.
    """

    number: int
    images: list[Listed]


class Result(NamedTuple):
    """What came of a shard.

    Attributes:
        shard: its number.
        kind: that of the error for which a worker could not go on; empty where there was none.
        reason: in words, why the shard was not done; empty where it was.
    """

    shard: int
    kind: str = ""
    reason: str = ""


class WorkersLostError(Exception):
    """A pass ended before its end; the message says why."""


class Runner(Protocol):
    """Does shards on workers, in any order."""

    def __call__(self, shards: Iterable[Shard], careful: bool) -> Iterator[Result]:
        """Do shards, and give what came of each; of those that were lost with a worker there is nothing.

        Args:
            shards: those to do.
            careful: as `Scorer.do` takes it.

        Raises:
            WorkersLostError: nobody is left to do the rest.
        """


def run_all(listing: Listing, pending: Mapping[int, int], archive: Archive, run: Runner, progress: Progress) -> None:
    """Have all shards done, a wave at a time.

    Args:
        listing: the images.
        pending: how many images without a finding each shard has.
        archive: where the findings go.
        run: does them.
        progress: told of each shard.

    Raises:
        ClusterError: images are left that no worker could read.
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
    """Do shards until none is left; those that are lost with a node or a worker are done again."""
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
                    raise ClusterError(f"A worker could not go on ({result.kind}): {result.reason}")
                if result.reason:
                    reason = result.reason
                    continue
                left.pop(result.shard, None)
                progress(total - sum(left.values()))
        except WorkersLostError as error:
            reason = str(error)
        if careful and left and _unpredicted(listing, left, archive) >= before:
            raise ClusterError(
                f"{sum(left.values())} images could not be read ({reason}): the others are in the output. Start it "
                "again, with fewer workers where memory is short."
            )
        attempt += 1


def _unpredicted(listing: Listing, numbers: Iterable[int], archive: Archive) -> int:
    """Count the images without a row that holds."""
    surveyed = output.surveyed(archive, listing, numbers)
    return sum(
        rows.get(text(name), {}).get("error_kind") != output.LOST
        for _, rows, listed in surveyed
        for name, _ in output.unscored(listed, rows)
    )
