"""The few ways in which Pneumoscope fails; every message says what was expected, what was got and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PneumoscopeError(Exception):
    """Base of every error that Pneumoscope raises on purpose.

    `kind` is the stable word that programs read: it stands in `error.kind` of a JSON row.
    """

    kind = "failed"


class NotFoundError(PneumoscopeError):
    """There is no such file, folder or name."""

    kind = "not_found"


class UnreadableError(PneumoscopeError):
    """The file is an image, or claims to be one, and cannot be decoded: truncated, corrupt, empty, no permission."""

    kind = "unreadable"


class UnsupportedError(PneumoscopeError):
    """The file is of a kind that Pneumoscope does not read: text, video, a DICOM object without pixels."""

    kind = "unsupported"


class TooLargeError(PneumoscopeError):
    """The image has more pixels than any radiograph, and decoding it could exhaust the memory."""

    kind = "too_large"


class TooSlowError(PneumoscopeError):
    """The image takes longer to read than any radiograph."""

    kind = "too_slow"


class NotAChestRadiographError(PneumoscopeError):
    """The image can be read and cannot be a chest radiograph."""

    kind = "not_a_chest_radiograph"


class DatasetError(PneumoscopeError):
    """A folder, CSV or archive does not hold a labelled data set in a known layout."""

    kind = "dataset"


class ModelFileError(PneumoscopeError):
    """A model file is not one that Pneumoscope wrote, or is damaged."""

    kind = "model_file"


class TrainingError(PneumoscopeError):
    """A training cannot start or continue: a contradictory recipe, or a run folder of another recipe."""

    kind = "training"


class SourceError(PneumoscopeError):
    """A public data set could not be fetched or did not verify."""

    kind = "source"


class MissingExtraError(PneumoscopeError):
    """The command needs an optional part of Pneumoscope that is not installed."""

    kind = "missing_extra"

    @classmethod
    def of(cls, what: str, missing: str | None, extra: str) -> MissingExtraError:
        """Say what to install for something that needs an extra.

        Example:
            >>> str(MissingExtraError.of("Scoring", "ray", "cluster"))
            "Scoring needs what is not installed (ray is missing): pip install '.[cluster]' in the clone."
        """
        return cls(f"{what} needs what is not installed ({missing} is missing): pip install '.[{extra}]' in the clone.")


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Say what to install where an import within the block fails.

    Raises:
        MissingExtraError: it fails.

    Example:
        >>> with needs_extra("Scoring", "cluster"):
        ...     import no_such_library
        Traceback (most recent call last):
        pneumoscope.errors.MissingExtraError: Scoring needs what is not installed (no_such_library is missing): pip ...
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError.of(what, error.name, extra) from error


class StorageError(PneumoscopeError):
    """An object store or a folder cannot be used: no credentials, no answer, or it holds another model's findings."""

    kind = "storage"


class ClusterError(PneumoscopeError):
    """There is no such cluster, or it, or the processes of this machine, could not do the work."""

    kind = "cluster"
