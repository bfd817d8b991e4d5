"""The command `serve`, the HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from pneumoscope.cli import console
from pneumoscope.cli.options import ModelOption, PrevalenceOption
from pneumoscope.errors import needs_extra
from pneumoscope.imaging.radiograph import MAX_PIXELS


def serve(
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address to serve on; any but this machine's own requires a token.")
    ] = ("127.0.0.1"),
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port; 0 for any that is free.")
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", envvar="PNEUMOSCOPE_TOKEN", help="The token that clients must send."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Another site whose pages may call it; may be repeated.")
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="The path at which a proxy serves it, if the proxy sends no X-Forwarded-Prefix."
        ),
    ] = "",
    model: ModelOption = None,
    prevalence: PrevalenceOption = None,
    max_megabytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Largest request; for a larger one the answer is 413.")
    ] = 128,
    max_images: Annotated[int, typer.Option(metavar="N", min=1, help="Most images of a request; else 413.")] = 64,
    max_pixels: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=MAX_PIXELS, help="Most pixels in an image; a larger one gets an error."),
    ] = MAX_PIXELS,
    max_seconds: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, help="Most time for an image; a slower one gets an error."),
    ] = 20.0,
) -> None:
    """Serve a page for looking at images, and HTTP for programs.

    Nothing that is sent is kept after the answer. Ctrl-C stops the service; what was accepted is answered first.

    \b
    $ pneumoscope serve
    $ curl -F images=@image.png http://127.0.0.1:8000/v1/predict
    $ PNEUMOSCOPE_TOKEN=secret pneumoscope serve --host 0.0.0.0
    """
    with needs_extra("Serving", "serve"):
        from pneumoscope.service import server
        from pneumoscope.service.security import Limits
    body = max_megabytes * 1_000_000
    limits = Limits(
        body=body,
        held=max(Limits.held, body),
        images=max_images,
        queue=max(Limits.queue, max_images),
        pixels=max_pixels,
        image_seconds=max_seconds,
    )
    server.serve(
        host,
        port,
        model=model,
        prevalence=prevalence,
        token=token,
        origins=allow_origin or (),
        limits=limits,
        root_path=root_path,
        tell=lambda address: console.say(f"The page: {address}\nCtrl-C stops it. Requests are logged below."),
    )
