"""`tokenguard dashboard`."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from pathlib import Path

import click

from tokenguard.cli.recorded import SOURCE, given_or_local
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError

HOST = "127.0.0.1"
PORT = 4640
MISSING = "the dashboard needs starlette and uvicorn. Install them: pip install 'tokenguard-otel[dashboard]'"


@click.command()
@SOURCE
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="The port to listen on; 0 chooses a free one.",
)
@click.option("--open/--no-open", "opens", default=True, help="Open the page in the browser.")
def dashboard(source: tuple[str, ...], port: int, opens: bool) -> None:
    """Show the recorded calls on a page in the browser, updated while programs run.

    The page is served on this machine alone (127.0.0.1), at an address that holds a secret. It loads nothing from
    elsewhere. For a page to mail, see tokenguard report --format html.
    """
    try:
        import uvicorn

        from tokenguard.page.app import Dashboard
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "anyio"):
            raise
        raise TokenGuardError(MISSING) from error
    from tokenguard.cli.budgets import standing

    given = given_or_local(source)
    if not given:
        raise TokenGuardError(f"{names.ENV_STORE} switches the local store off: name one with --source PATH")
    missing = [path for path in given if source and isinstance(path, Path) and not path.exists()]
    if missing:
        raise TokenGuardError(f"{missing[0]}: no such file or folder")
    shown = Dashboard(given, secrets.token_urlsafe(18), (lambda: ()) if source else standing)
    with _listening(port) as there:
        url = f"http://{HOST}:{there.getsockname()[1]}/{shown.token}/"
        click.echo(f"{shown.shown}: {url}\nCtrl-C ends it.")
        if opens:
            webbrowser.open(url)
        config = uvicorn.Config(shown.app(), log_level="warning", access_log=False, server_header=False, lifespan="off")
        uvicorn.Server(config).run([there])


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port), reuse_port=False)
    except OSError as error:
        raise TokenGuardError(
            f"{HOST}:{port} cannot be listened on ({error.strerror}): use another --port, or 0"
        ) from None
