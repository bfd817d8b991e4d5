"""Images in as a form, findings out: at once, as a stream, as FHIR; and the values of an image for a viewer."""

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
"""The answer's status where no image of a request could be predicted, by the first one's kind of error; else 422."""

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

    Every image has a row; one that cannot be predicted has an error in its row. Where that is so for all images of the
    request, the status says why: 413, 415 or 422.

    With `Accept: application/fhir+json` the answer is FHIR R4: of one image a `DiagnosticReport` that contains its
    `Observation`s, or where it cannot be predicted an `OperationOutcome`; of several a `Bundle` of these.
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
            "description": "A finding a line.",
        }
    },
    openapi_extra=uploads.FORM,
)
async def predict_as_stream(
    request: Request, service: Parts, evidence: Evidence = False, preview: Preview = False
) -> StreamingResponse:
    """Predict many images; each finding is a line of JSON, sent as soon as it is there, in any order.

    `index` says which image of the request it belongs to. Images are predicted while later ones still arrive; the
    fields `evidence` and `preview` count for the images after them. Where the rest of a request is rejected after the
    first image, the last line is `{"error": {"kind", "message"}}`.
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
    """Give the values of one image with all their bits, for a viewer that windows them itself.

    `slope * code + intercept` is a pixel's value in the file's own units; `png` holds the codes as a gray PNG of 16
    bits. `curve` says how bright the detector sees the codes.
    """
    service.check_room()
    images = await uploads.read(request, service.limits)
    if len(images.submissions) != 1:
        raise Refusal(422, "request", f"Expected one image, got {len(images.submissions)}: send one a request.")
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
