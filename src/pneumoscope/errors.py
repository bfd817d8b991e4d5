"""Every error that Pneumoscope raises; each message says what was expected, what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PneumoscopeError(Exception):
    """Base of every error that Pneumoscope raises on purpose.

    `kind` is a stable identifier for programs to read, reported as `error.kind` in a JSON row.
    """

    kind = "failed"


class NotFoundError(PneumoscopeError):
    """There is no such file, folder or name."""

    kind = "not_found"


class UnreadableError(PneumoscopeError):
    """The file should be an image but cannot be decoded: it is truncated, corrupt, empty or not readable."""

    kind = "unreadable"


class UnsupportedError(PneumoscopeError):
    """Pneumoscope does not read this kind of file: text, video, a DICOM object without pixels."""

    kind = "unsupported"


class TooLargeError(PneumoscopeError):
    """The image has more pixels than any radiograph, and decoding it could exhaust the memory."""

    kind = "too_large"


class TooSlowError(PneumoscopeError):
    """The image takes longer to read than any radiograph."""

    kind = "too_slow"


class NotAChestRadiographError(PneumoscopeError):
    """The image can be read but is not a chest radiograph."""

    kind = "not_a_chest_radiograph"


class DatasetError(PneumoscopeError):
    """A folder, CSV or archive does not hold a labelled data set in a known layout."""

    kind = "dataset"


class ModelFileError(PneumoscopeError):
    """A model file was not written by Pneumoscope, or is damaged."""

    kind = "model_file"


class TrainingError(PneumoscopeError):
    """Training cannot start or continue: the recipe contradicts itself, or the run folder belongs to another recipe."""

    kind = "training"


class SourceError(PneumoscopeError):
    """A public data set could not be fetched, or failed verification."""

    kind = "source"


class MissingExtraError(PneumoscopeError):
    """The command needs an optional part of Pneumoscope that is not installed."""

    kind = "missing_extra"

    @classmethod
    def of(cls, what: str, missing: str | None, extra: str) -> MissingExtraError:
        """Build the error that says what to install.

        Args:
            what: what needs the extra; the subject of the message.
            missing: the module that could not be imported.
            extra: the name of the extra in `pyproject.toml`.

        Example:
            >>> str(MissingExtraError.of("Scoring", "ray", "cluster"))
            "Scoring needs what is not installed (ray is missing): pip install '.[cluster]' in the clone."
        """
        return cls(f"{what} needs what is not installed ({missing} is missing): pip install '.[{extra}]' in the clone.")


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Turn a failed import within the block into an error that says what to install.

    Raises:
        MissingExtraError: an import fails.

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
    """An object store or folder cannot be used: no credentials, no response, or it holds another model's findings."""

    kind = "storage"


class ClusterError(PneumoscopeError):
    """The cluster does not exist, or the cluster or the local worker processes could not do the work."""

    kind = "cluster"
