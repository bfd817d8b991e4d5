"""DICOMweb's STOW-RS: receives instances, and returns reports on them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from pneumoscope.service import dicomweb
from pneumoscope.service.routers import refusals
from pneumoscope.service.state import Parts, Service

Captured = Annotated[bool, Query(description="Add a Secondary Capture of each pneumonia with its evidence map.")]
Normals = Annotated[bool, Query(description="With `evidence`, add one of each image without pneumonia too.")]

router = APIRouter()

_DESCRIBED: dict[str, Any] = {
    "response_class": Response,
    "responses": refusals.ANY | refusals.INSTANCES | dicomweb.ANSWERS,
    "openapi_extra": dicomweb.BODY,
}


@router.post("/dicom-web/studies", **_DESCRIBED)
async def store_instances(
    request: Request, service: Parts, evidence: Captured = False, evidence_of_normals: Normals = False
) -> Response:
    """Predict DICOM instances that are sent with DICOMweb's STOW-RS.

    Nothing is stored. The answer has a DICOM Structured Report on each image, and with `evidence` a Secondary Capture
    of each pneumonia, as parts of `multipart/related; type="application/dicom"`. The last part is the response's data
    set as `application/dicom+json`, with `ReferencedSOPSequence`, `FailedSOPSequence` and, for instances that could not
    even be identified, `OtherFailuresSequence`. A client that accepts only `application/dicom+json`, or prefers it,
    gets only the data set.
    """
    return await _stored(request, service, None, evidence, evidence_of_normals)


@router.post("/dicom-web/studies/{study}", **_DESCRIBED)
async def store_instances_of_study(
    request: Request,
    service: Parts,
    study: str,
    evidence: Captured = False,
    evidence_of_normals: Normals = False,
) -> Response:
    """Predict DICOM instances of one study, as `/dicom-web/studies` does; an instance of another study fails."""
    return await _stored(request, service, study, evidence, evidence_of_normals)


async def _stored(request: Request, service: Service, study: str | None, evidence: bool, normals: bool) -> Response:
    reports = dicomweb.wants_reports(request.headers.get("accept"))
    service.check_room()
    rows = await service.answered(request, await dicomweb.read(request, service.limits, evidence, normals))
    if rows is None:
        return Response(status_code=499)
    results = dicomweb.results_of(rows, study)
    service.count(request, rows)
    return dicomweb.answer(results, reports)
