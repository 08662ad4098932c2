"""`broker backup` and `broker restore`: the store as it is at one moment, and back again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli import auditing
from broker.cli.bars import bar
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.moving import PATIENTS_DATA
from broker.cli.opening import served
from broker.cli.printing import NEGATIVE

if TYPE_CHECKING:
    from broker.settings import Settings

NOT_OURS = (
    "redis: this Redis is not the broker's own, so its administrator backs it up: have it "
    "BGSAVE and copy its dump.rdb, best from a replica. `broker export FILE` takes everything that "
    "is the broker's out of any Redis"
)


def register(program: typer.Typer) -> None:
    """Add `backup` and `restore` to the program."""
    program.command("backup")(backup)
    program.command("restore")(restore)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    config: ConfigOption = None,
) -> None:
    """Copy the store as it is at one moment, while the broker runs or when it does not.

    The file holds patients' data; nobody else may read it. Mappings and broker.yaml are files of
    yours, which it does not hold.
    """
    from broker.store import snapshot
    from broker.store.stamping import ServerProblem

    settings = load_settings(config)
    _refuse_external(settings)
    if file.exists():
        raise typer.BadParameter(f"{file} is there already; name another one")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with served(settings) as store, bar("copying") as tell:
            manifest = snapshot.take(
                store,
                settings.data,
                file,
                taken=now,
                site=settings.site,
                seen=lambda done: tell("", done, 1.0),
            )
    except OSError as trouble:
        typer.echo(f"{file}: {trouble.strerror}; nothing was backed up", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    except ServerProblem as problem:
        typer.echo(f"{problem}; nothing was backed up", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    auditing.of_export(settings, f"backup: {manifest.keys} keys", file)
    typer.echo(f"{file}: {manifest.size} bytes, {manifest.keys} keys. {PATIENTS_DATA}", err=True)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `broker backup`.")],
    config: ConfigOption = None,
) -> None:
    """Put a backup into a data folder that has no store yet; the broker must not run on it."""
    from broker.store import snapshot
    from broker.store.server import DataInUse, NoServer, find_server
    from broker.store.stamping import DataTooNew, ServerProblem

    settings = load_settings(config)
    _refuse_external(settings)
    try:
        binary = find_server(settings.redis.server)
        memory = settings.redis.max_memory
        manifest, keys = snapshot.restore(file, settings.data, binary, max_memory=memory)
    except OSError as trouble:
        raise typer.BadParameter(f"{trouble.filename or file}: {trouble.strerror}") from None
    except snapshot.NoBackup as fault:
        typer.echo(f"{fault} (nothing was restored)", err=True)
        raise typer.Exit(NEGATIVE) from None
    except (NoServer, DataTooNew) as problem:
        typer.echo(f"{problem}", err=True)
        raise typer.Exit(os.EX_CONFIG) from None
    except (DataInUse, ServerProblem) as problem:
        typer.echo(f"{problem}", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    told = f"the store of {manifest.site or 'a broker'} as of {manifest.taken}, {keys} keys"
    auditing.of_import(settings, f"restore: {keys} keys", file)
    typer.echo(f"{settings.data}: {told}; start it with `broker run`", err=True)


def _refuse_external(settings: Settings) -> None:
    if not settings.redis.is_ours:
        typer.echo(NOT_OURS, err=True)
        raise typer.Exit(os.EX_CONFIG)
