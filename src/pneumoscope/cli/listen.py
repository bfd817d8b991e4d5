"""The command that speaks DICOM's own network protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumoscope.cli import console
from pneumoscope.cli.options import ModelOption, NormalsOption, PrevalenceOption
from pneumoscope.errors import needs_extra
from pneumoscope.imaging.radiograph import MAX_PIXELS


def listen(
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port; 0 for any that is free.")
    ] = 11112,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address to listen on; any but this machine's own demands --allow.")
    ] = "127.0.0.1",
    aet: Annotated[str, typer.Option(metavar="AET", help="The node's own AE title.")] = "PNEUMOSCOPE",
    send_to: Annotated[
        list[str] | None,
        typer.Option(metavar="AET@HOST:PORT", help="Who gets the reports; by default the sender. May be repeated."),
    ] = None,
    reply_port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=65535, help="Without --send-to: where senders take reports.")
    ] = 104,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="AET", help="Who may send: AET, AET@HOST, or * for everybody. May be repeated."),
    ] = None,
    spool: Annotated[
        Path, typer.Option(metavar="DIR", help="Where images and reports wait, through restarts and kills.")
    ] = Path("pneumoscope-spool"),
    evidence: Annotated[
        bool, typer.Option(help="Send each image of a pneumonia with its evidence map along, as a Secondary Capture.")
    ] = True,
    evidence_of_normals: NormalsOption = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="This node's certificate; connections are then encrypted.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of the certificate.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who signed the certificates of the others.")
    ] = None,
    tls_out: Annotated[
        bool, typer.Option("--tls-out/--no-tls-out", help="Whether reports leave encrypted, too.")
    ] = True,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where Prometheus reads counters; by default nowhere.")
    ] = None,
    model: ModelOption = None,
    prevalence: PrevalenceOption = None,
    max_megabytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Size of an image; a larger one is rejected.")
    ] = 128,
    max_spool_megabytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Size of the spool; beyond it images are rejected with status A700.")
    ] = 4000,
    max_associations: Annotated[int, typer.Option(metavar="N", min=1, help="Associations at once.")] = 32,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, max=MAX_PIXELS, help="Pixels of an image; a larger one gets no report.")
    ] = MAX_PIXELS,
    max_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Time to predict an image; a slower one gets no report.")
    ] = 20.0,
) -> None:
    """Take images by DICOM's C-STORE, and send reports back.

    Every frontal chest radiograph that arrives gets a Structured Report, and one with a pneumonia a Secondary Capture
    with its evidence map, filed in its own study. What was accepted is kept on disk until its reports are where they
    belong, whatever is killed or down meanwhile. Ctrl-C stops; the next start goes on.

    \b
    $ pneumoscope listen --send-to ARCHIVE@127.0.0.1:4242
    $ pneumoscope listen --host 0.0.0.0 --allow DX1 --send-to ARCHIVE@pacs:104
    """
    with needs_extra("Listening", "listen"):
        from pneumoscope.dimse import tls
        from pneumoscope.dimse.addresses import Allowed, Node, check_title
        from pneumoscope.dimse.limits import Limits
        from pneumoscope.dimse.node import Settings
        from pneumoscope.dimse.node import listen as run
    incoming = outgoing = None
    files = (tls_cert, tls_key, tls_ca)
    if tls_cert and tls_key and tls_ca:
        incoming, outgoing = tls.contexts(tls_cert, tls_key, tls_ca)
    elif any(files):
        raise typer.BadParameter("Expected --tls-cert, --tls-key and --tls-ca together, got some of them.")
    settings = Settings(
        title=check_title(aet),
        host=host,
        port=port,
        destinations=[Node.parse(text) for text in send_to or ()],
        reply_port=reply_port,
        allowed=[Allowed.parse(text) for text in allow or ()],
        incoming=incoming,
        outgoing=outgoing if tls_out else None,
        evidence=evidence,
        evidence_of_normals=evidence_of_normals,
        metrics=_address(metrics) if metrics else None,
    )
    limits = Limits(
        object_bytes=max_megabytes * 1_000_000,
        held=max(Limits.held, 2 * max_megabytes * 1_000_000),
        associations=max_associations,
        spool=max_spool_megabytes * 1_000_000,
        pixels=max_pixels,
        image_seconds=max_seconds,
    )
    run(
        settings,
        spool,
        model=model,
        prevalence=prevalence,
        limits=limits,
        tell=lambda address: console.say(f"Listening: {address}\nCtrl-C stops it. What happens is logged below."),
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise typer.BadParameter(f"Expected HOST:PORT for the counters, got '{text}'.")
    return host or "127.0.0.1", int(port)
