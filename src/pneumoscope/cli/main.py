"""The command line: its commands, errors and exit status."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from pneumoscope.cli import console, data, listen, models, predict, serve, train
from pneumoscope.errors import PneumoscopeError
from pneumoscope.version import __version__

app = typer.Typer(
    name="pneumoscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes would leave a third of 80 columns for text
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Not a medical device. Exit status: 0 done; 1 failed; 2 wrong usage; 3 some files failed, the others have "
    "a finding.",
)


def main() -> None:
    """Run the command line; every failure is reported in one line on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # names of images may hold any bytes
    try:
        app(prog_name="pneumoscope")  # completion needs this name, also with `python -m pneumoscope`
    except PneumoscopeError as error:
        console.error(error.kind, str(error))
        sys.exit(1)
    except BrokenPipeError:  # the reader of standard output has gone, as in `pneumoscope predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        console.error("failed", str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Find pneumonia on chest radiographs: predict, evaluate, train.

    \b
    See it at work on six radiographs:
      $ pneumoscope demo
    Read a folder, and see where the model looks:
      $ pneumoscope predict images/ --evidence overlays/
    Train a model of your own:
      $ pneumoscope train chest_xray/ --out runs/first
    """
    if version:
        typer.echo(f"pneumoscope {__version__}")
        raise typer.Exit


for command in (
    predict.predict,
    predict.score,
    models.evaluate,
    data.audit,
    models.calibrate,
    train.train,
    models.export,
    serve.serve,
    listen.listen,
    data.fetch,
    predict.demo,
):
    app.command()(command)
