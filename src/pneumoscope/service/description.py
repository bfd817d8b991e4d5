"""The service's OpenAPI description, with the address under which it was requested."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pneumoscope.service.addresses import served_under
from pneumoscope.service.schemas import EXAMPLES
from pneumoscope.service.security import OPEN

_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "The token that the service was started with, by `--token` or `PNEUMOSCOPE_TOKEN`.",
}


def described(app: FastAPI, address: str, *, demands_token: bool) -> dict[str, Any]:
    """Describe the service for programs.

    Args:
        app: the application with all its routes.
        address: the service's URL as the client sees it.
        demands_token: whether clients need a token.

    Returns:
        An OpenAPI 3.1 document.

    Example:
        >>> described(FastAPI(), "http://127.0.0.1:8000/", demands_token=False)["servers"]
        [{'url': 'http://127.0.0.1:8000'}]
    """
    document = app.openapi() | {"servers": [{"url": address.rstrip("/")}]}
    shapes = document.get("components", {}).get("schemas", {})
    shapes |= {name: shapes[name] | {"examples": EXAMPLES[name]} for name in EXAMPLES.keys() & shapes.keys()}
    if not demands_token:
        return document
    document["components"] = document.get("components", {}) | {"securitySchemes": {"token": _SCHEME}}
    document["security"] = [{"token": []}]
    document["paths"] = {
        path: {method: one | {"security": []} for method, one in operations.items()} if path in OPEN else operations
        for path, operations in document["paths"].items()
    }
    return document


def route(app: FastAPI, *, demands_token: bool) -> Route:
    """Create the route that serves the description."""

    async def send(request: Request) -> JSONResponse:
        address = served_under(request.headers, request.url.scheme, request.scope.get("root_path", ""))
        return JSONResponse(described(app, address, demands_token=demands_token))

    return Route("/openapi.json", send, methods=["GET"], include_in_schema=False)
