"""Receives images as a form; returns findings together, as a stream or as FHIR, or an image's values for a viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from pneumoscope.reporting import fhir
from pneumoscope.service import schemas, stream, uploads
from pneumoscope.service.multipart import options
from pneumoscope.service.routers import refusals
from pneumoscope.service.security import Refusal
from pneumoscope.service.state import Parts
from pneumoscope.service.worker import Row, Submission

STATUS = {"too_large": 413, "unsupported": 415}
"""The status if no image of a request could be predicted, by the kind of the first error; 422 for other kinds."""

Evidence = Annotated[bool, Query(description="Add the evidence map of each image.")]
Preview = Annotated[bool, Query(description="Add each image as a JPEG that a browser can show.")]

router = APIRouter()


@router.post(
    "/v1/predict",
    response_description="A finding for each image.",
    response_model=schemas.FindingsAnswer,
    response_model_exclude_unset=True,
    responses=refusals.ANY | refusals.IMAGES | {200: {"content": {fhir.MEDIA_TYPE: {"schema": {"type": "object"}}}}},
    openapi_extra=uploads.FORM,
)
async def predict(request: Request, service: Parts, evidence: Evidence = False, preview: Preview = False) -> Response:
    """Predict one or many images.

    Every image has a row; an image that cannot be predicted has an error in its row. If no image of the request can be
    predicted, the status says why: 413, 415 or 422.

    With `Accept: application/fhir+json` the answer is FHIR R4: for one image a `DiagnosticReport` that contains its
    `Observation`s, or an `OperationOutcome` if it cannot be predicted; for several images a `Bundle` of these.
    """
    service.check_room()  # before the images are sent
    images = await uploads.read(request, service.limits, evidence, preview)
    rows = await service.answered(request, images.submissions)
    if rows is None:
        return Response(status_code=499)
    service.count(request, rows)
    status = _status(rows)
    if _wants_fhir(request):
        return JSONResponse(fhir.resource(rows, service.worker.card), status, media_type=fhir.MEDIA_TYPE)
    findings = [{"index": i} | row | {"path": images.names[i]} for i, row in enumerate(rows)]
    return JSONResponse({"findings": findings}, status)


@router.post(
    "/v1/predict/stream",
    response_class=StreamingResponse,
    responses=refusals.ANY
    | refusals.IMAGES
    | {
        200: {
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
            "description": "A finding per line.",
        }
    },
    openapi_extra=uploads.FORM,
)
async def predict_as_stream(
    request: Request, service: Parts, evidence: Evidence = False, preview: Preview = False
) -> StreamingResponse:
    """Predict many images; each finding is a line of JSON, sent as soon as it is ready, in any order.

    `index` says which image of the request it belongs to. Images are predicted while later ones still arrive; the
    fields `evidence` and `preview` apply to the images after them. If the rest of a request is refused after the first
    image, the last line is `{"error": {"kind", "message"}}`.
    """

    def answered(rows: Sequence[Row]) -> None:
        service.count(request, rows)

    service.check_room()
    return await stream.response(uploads.Form(request, service.limits, evidence, preview), service.queue, answered)


@router.post(
    "/v1/values",
    response_description="The values.",
    response_model=schemas.ValuesAnswer,
    responses=refusals.ANY | refusals.IMAGES,
    openapi_extra=uploads.FORM,
)
async def values(request: Request, service: Parts) -> Response:
    """Return the values of one image at full depth, for a viewer that applies windows itself.

    `slope * code + intercept` is a pixel's value in the units of the file; `png` holds the codes as a 16-bit gray PNG.
    `curve` is the brightness that the detector gives to the codes.
    """
    service.check_room()
    images = await uploads.read(request, service.limits)
    if len(images.submissions) != 1:
        raise Refusal(422, "request", f"Expected one image, got {len(images.submissions)}: send one per request.")
    rows = await service.answered(request, [Submission(images.submissions[0].data, values=True)])
    if rows is None:
        return Response(status_code=499)
    if rows[0]["error"]:
        return JSONResponse({"error": rows[0]["error"]}, _status(rows))
    return JSONResponse(rows[0]["values"])


def _status(rows: Sequence[Row]) -> int:
    errors = [row["error"] for row in rows]
    return STATUS.get(errors[0]["kind"], 422) if all(errors) else 200


def _wants_fhir(request: Request) -> bool:
    wishes = request.headers.get("accept", "").split(",")
    return any(options(wish.strip())[0] in (fhir.MEDIA_TYPE, "application/json+fhir") for wish in wishes)
