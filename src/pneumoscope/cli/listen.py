"""The command `listen`, a DICOM node."""

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
        str, typer.Option(metavar="HOST", help="The address to listen on; any but this machine's own requires --allow.")
    ] = "127.0.0.1",
    aet: Annotated[str, typer.Option(metavar="AET", help="The node's own AE title.")] = "PNEUMOSCOPE",
    send_to: Annotated[
        list[str] | None,
        typer.Option(metavar="AET@HOST:PORT", help="Who gets the reports; by default the sender. May be repeated."),
    ] = None,
    reply_port: Annotated[
        int,
        typer.Option(metavar="PORT", min=1, max=65535, help="Without --send-to: the port where senders take reports."),
    ] = 104,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="AET", help="Who may send: AET, AET@HOST, or * for anyone. May be repeated."),
    ] = None,
    spool: Annotated[
        Path, typer.Option(metavar="DIR", help="Where images and reports are kept until they are done.")
    ] = Path("pneumoscope-spool"),
    evidence: Annotated[
        bool, typer.Option(help="Also send images of pneumonia with their evidence maps, as Secondary Captures.")
    ] = True,
    evidence_of_normals: NormalsOption = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="This node's certificate; with it, connections are encrypted.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of the certificate.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The authority that signed the others' certificates.")
    ] = None,
    tls_out: Annotated[
        bool, typer.Option("--tls-out/--no-tls-out", help="Whether reports are sent encrypted, too.")
    ] = True,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where Prometheus reads counters; by default nowhere.")
    ] = None,
    model: ModelOption = None,
    prevalence: PrevalenceOption = None,
    max_megabytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Largest image; a larger one is not accepted.")
    ] = 128,
    max_spool_megabytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Largest spool; when it is full, images get status A700.")
    ] = 4000,
    max_associations: Annotated[int, typer.Option(metavar="N", min=1, help="Most associations at once.")] = 32,
    max_pixels: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=MAX_PIXELS, help="Most pixels in an image; a larger one gets no report."),
    ] = MAX_PIXELS,
    max_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Most time for an image; a slower one gets no report.")
    ] = 20.0,
) -> None:
    """Receive images by DICOM C-STORE, and send reports back.

    For every frontal chest radiograph that arrives, a Structured Report goes into its study, and with a finding of
    PNEUMONIA also a Secondary Capture with its evidence map. Accepted images are kept on disk until their reports are
    delivered, through kills and failures of any side. Ctrl-C stops the node; the next start continues.

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
