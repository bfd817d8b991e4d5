"""DICOMweb's Store transaction (PS3.18, section 10.5): receives images and returns reports without storing anything."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pneumoscope.service import multipart
from pneumoscope.service.multipart import options
from pneumoscope.service.security import Limits, Refusal
from pneumoscope.service.worker import Row, Submission

DICOM, JSON, RELATED = "application/dicom", "application/dicom+json", "multipart/related"

PROCESSING_FAILURE = 0x0110
FAILURE_REASONS = {
    "unsupported": 0x0122,  # SOP class not supported
    "unreadable": 0xC000,  # cannot understand
    "too_large": 0xA700,  # out of resources
    "too_slow": 0xA700,
}
"""`FailureReason` for the kinds of errors (PS3.18, annex I.2.2); `PROCESSING_FAILURE` for all others."""

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            RELATED: {
                "schema": {"type": "string", "format": "binary", "description": f"Parts of {DICOM}, one file each."}
            }
        },
    }
}
"""A request with instances, for the OpenAPI description."""

_DATA_SET: dict[str, Any] = {JSON: {"schema": {"type": "object"}}}
_REPORTS: dict[str, Any] = {RELATED: {"schema": {"type": "string", "format": "binary"}}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "All instances were read.", "content": _REPORTS | _DATA_SET},
    202: {"description": "Some were read; `FailedSOPSequence` names the others.", "content": _REPORTS | _DATA_SET},
    409: {"description": "No instance could be read.", "content": _DATA_SET},
}
"""The answers, for the OpenAPI description."""


@dataclass(frozen=True)
class Result:
    """The result for an instance.

    Attributes:
        instance: its UIDs by name, as far as they could be read.
        reports: the DICOM files about it; none if it failed.
        failure: the kind of error, or None.
    """

    instance: dict[str, str]
    reports: Sequence[bytes] = ()
    failure: str | None = None


def wants_reports(accept: str | None) -> bool:
    """Return whether a client accepts the reports themselves, which is the default.

    Args:
        accept: the `Accept` header (RFC 9110, section 12.5.1).

    Raises:
        Refusal: it accepts neither reports nor the DICOM JSON with the results.

    Example:
        >>> wants_reports("*/*"), wants_reports("application/dicom+json")
        (True, False)
    """
    taken = {DICOM: 0.0, JSON: 0.0}
    for wish in (accept or "*/*").split(","):
        kind, given = options(wish.strip())
        try:
            weight = float(given.get("q", "1"))
        except ValueError:
            weight = 0.0
        if kind in ("*/*", RELATED, "multipart/*") and given.get("type", DICOM) == DICOM:
            taken[DICOM] = max(taken[DICOM], weight)
        if kind in ("*/*", JSON, "application/*", "application/json"):
            taken[JSON] = max(taken[JSON], weight)
    if not any(taken.values()):
        message = f'Expected a client that accepts {RELATED}; type="{DICOM}" or {JSON}, got one that accepts neither.'
        raise Refusal(406, "not_acceptable", message)
    return taken[DICOM] >= taken[JSON]


async def read(request: Request, limits: Limits, evidence: bool, normals: bool = False) -> list[Submission]:
    """Read the instances of a request, one from each part.

    Args:
        request: the request, whose body is read.
        limits: limits the number of instances.
        evidence: whether to request the evidence map of a pneumonia as well as the report.
        normals: whether to request that of an image without pneumonia too.

    Raises:
        Refusal: it is not a multipart request with DICOM files, or there are too many.

    Example:
        >>> submissions = await read(request, Limits(), evidence=False)  # doctest: +SKIP
    """
    kind, given = options(request.headers.get("content-type", ""))
    if kind != RELATED or given.get("type", DICOM).lower() != DICOM:
        raise Refusal(415, "unsupported", f'Expected a {RELATED} request; type="{DICOM}", got another.')
    images = []
    async for part in multipart.parts(request, limits.images):
        if options(part.headers.get("content-type", DICOM))[0] != DICOM:
            raise Refusal(415, "unsupported", f"Expected parts of {DICOM}, got another.")
        images.append(Submission(part.data, evidence, reports=True, evidence_of_normals=normals))
    if not images:
        raise Refusal(400, "request", "Expected one or more DICOM files as parts, got none.")
    return images


def results_of(rows: Iterable[Row], study: str | None) -> list[Result]:
    """Return the result for each instance; an instance of a study other than the one in the URL has failed.

    Example:
        >>> results_of([{"error": {"kind": "unreadable"}}], None)
        [Result(instance={}, reports=(), failure='unreadable')]
    """
    results = []
    for row in rows:
        instance = row.get("instance", {})
        failure = row["error"]["kind"] if row["error"] else None
        if study is not None and instance and instance.get("StudyInstanceUID") != study:
            failure = "other_study"
        results.append(Result(instance, () if failure else row["reports"], failure))
    return results


def answer(results: Sequence[Result], reports: bool) -> Response:
    """Build the answer: the reports as parts with the response's data set last, or only the data set.

    Args:
        results: the results for all instances, in their order.
        reports: whether the client accepts the reports.

    Returns:
        Status 200 if all instances were read, 202 if some were, 409 if none was.

    Example:
        >>> answer([Result({}, failure="unreadable")], reports=True).status_code
        409
    """
    failed = [result for result in results if result.failure]
    status = 200 if not failed else 202 if len(failed) < len(results) else 409
    told = json.dumps(dataset(results)).encode("ascii")
    if status == 409 or not reports:
        return Response(told, status, media_type=JSON)
    boundary = uuid.uuid4().hex
    files = [(DICOM, file) for result in results for file in result.reports]
    body = b"".join(_parts([*files, (JSON, told)], boundary.encode("ascii")))
    return Response(body, status, media_type=f'{RELATED}; type="{DICOM}"; boundary={boundary}')


def dataset(results: Sequence[Result]) -> dict[str, Any]:
    """Return the response's data set (PS3.18, annex I) as DICOM JSON (annex F).

    `RetrieveURL` is empty because nothing is stored. `ErrorComment` is the kind of the error.

    Example:
        >>> dataset([Result({}, failure="unreadable")])["0008119A"]["Value"]
        [{'00081197': {'vr': 'US', 'Value': [49152]}, '00000902': {'vr': 'LO', 'Value': ['unreadable']}}]
    """
    referenced: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    for result in results:
        item: dict[str, Any] = {
            tag: {"vr": "UI", "Value": [result.instance[name]]}
            for tag, name in (("00081150", "SOPClassUID"), ("00081155", "SOPInstanceUID"))
            if name in result.instance
        }
        if result.failure is None:
            referenced.append(item | {"00081190": {"vr": "UR"}})
            continue
        reason = FAILURE_REASONS.get(result.failure, PROCESSING_FAILURE)
        why = {"00081197": {"vr": "US", "Value": [reason]}, "00000902": {"vr": "LO", "Value": [result.failure]}}
        (failed if len(item) == 2 else unknown).append(item | why)
    sequences = (("00081198", failed), ("00081199", referenced), ("0008119A", unknown))
    return {"00081190": {"vr": "UR"}} | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences if items}


def _parts(files: Sequence[tuple[str, bytes]], boundary: bytes) -> Iterator[bytes]:
    for kind, file in files:
        yield b"--%b\r\nContent-Type: %b\r\n\r\n" % (boundary, kind.encode("ascii"))
        yield file
        yield b"\r\n"
    yield b"--%b--\r\n" % boundary
