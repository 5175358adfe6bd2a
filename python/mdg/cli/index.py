"""`mdg index`: what a gateway would serve from some folders, and what it would not and why.

Scans like `mdg serve` does, into the same data folder; without a running gateway, since one process at a time may
write. `--problems` alone only reads and may be asked while the gateway runs.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.serve import folder_source, sandbox_defaults
from mdg.cli.terminal import Json, command, count, megabytes, no_file, passed_over_line, progress, say
from mdg.errors import InputOutput, Misuse

if TYPE_CHECKING:
    from mdg.config import Settings
    from mdg.sources.scan import ScanReport
    from mdg.store.index import IndexProblem


def index(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR…", help="Every folder of DICOM files that is to be served.")
    ] = None,
    *,
    config: ConfigFile = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for database, keys and what is received.")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(metavar="FILE", help="identity.csv: PatientID, issuer, IHI, source, date.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every file again.")] = False,
    problems: Annotated[bool, typer.Option("--problems", help="List what is not served, and what to do.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Name every file that is no DICOM, or was passed over.")] = False,
    as_json: Json = False,
) -> None:
    """Index folders of DICOM files where they lie.

    Nothing is copied or changed."""
    import anyio

    settings = _settings(config, data, identity, folders or [])
    scanned = bool(settings.sources) and (bool(folders) or not problems)
    if not scanned and not problems:
        raise Misuse("name at least one folder of DICOM files, or --problems")
    for folder in (path for source in settings.sources for path in source.path if scanned):
        if not folder.is_dir():
            raise InputOutput(str(folder), "it is not a folder; name a folder of DICOM files")
    with progress("indexing") as show:
        report, found, passed, unmatched = anyio.run(_index, settings, scanned, rebuild, show)
    again = ["--config", str(config)] if config else ["--data", str(data)] if data else []
    list_them = f"{command()} {shlex.join(['index', '--problems', *again])}"
    lines = _summary(report, found, unmatched, list_them) if report else []
    if problems:
        lines += _listed(found, every) or ["no problems"]
    if passed and (report or problems):
        lines.append(passed_over_line(passed, len(passed) if every else 3))
    told: dict[str, Any] = {"problems": [asdict(one) for one in found]} if problems else {"problem_count": len(found)}
    told["passed_over"] = passed
    say({"index": asdict(report) if report else None, **told}, lines, as_json)


def _settings(config: Path | None, data: Path | None, identity: Path | None, folders: Sequence[Path]) -> Settings:
    """From the settings file, or those of a first try with `mdg serve --sandbox`. `folders` replace the sources, under
    the name of the first of them."""
    from mdg.config import Settings

    paths = {"data": data, "identity": identity}
    given: dict[str, Any] = {name: path.absolute() for name, path in paths.items() if path is not None}
    if config is None:
        given = sandbox_defaults() | given | {"sandbox": True, "public_url": "http://127.0.0.1"}
    settings = Settings.load(config, **given)
    if not folders:
        return settings
    names = [source.name for source in settings.sources]
    return Settings.load(config, **given, sources=folder_source(folders, *names[:1]))


async def _index(
    settings: Settings, scanned: bool, rebuild: bool, show: Callable[[int, int], None] | None
) -> tuple[ScanReport | None, list[IndexProblem], list[str], int]:
    """The scan, if there is one; all problems; files passed over; lines of identity.csv that match no file."""
    from mdg.app.sources import open_sources
    from mdg.identity import Identities
    from mdg.jobs.events import identified
    from mdg.sources import watcher
    from mdg.store import Store
    from mdg.store.index import file_problems, passed_over

    async with Store.open(settings.store_url, read_only=not scanned) as store:
        identities = Identities(store, settings.custodian, settings.default_issuer, identified)
        report = None
        if scanned:
            if settings.identity is not None:
                await identities.load_csv(settings.identity)
            sources = await open_sources(settings, store)
            report = await watcher.scan(sources, lambda _, done: show(done, 0) if show else None, rebuild=rebuild)
        async with store.read() as connection:
            files = await file_problems(connection, settings.custodian)
            passed = await passed_over(connection, settings.custodian)
        return report, [*files, *await identities.problems()], passed, await identities.unmatched()


def _listed(found: Sequence[IndexProblem], every: bool) -> list[str]:
    """One line for each problem; files that are no DICOM, of which a folder of documents has hundreds, share one."""
    from mdg.sources.other_files import NOT_DICOM

    foreign = [] if every else [one for one in found if one.code == NOT_DICOM]
    if len(foreign) < 2:
        return [f"{one.code} {one.where}: {one.message}" for one in found]
    folders = Counter(str(Path(one.where).parent) for one in foreign)
    most = ", ".join(f"{folder} ({number:,})" for folder, number in folders.most_common(3))
    more = f" and {count(len(folders) - 3, 'more folder')}" if len(folders) > 3 else ""
    line = f"{NOT_DICOM} {len(foreign):,} files are not DICOM, in {most}{more}; --all lists them"
    return [line, *(f"{one.code} {one.where}: {one.message}" for one in found if one.code != NOT_DICOM)]


def _summary(report: ScanReport, found: Sequence[IndexProblem], unmatched: int, list_them: str) -> list[str]:
    lines = [
        f"{count(report.instances, 'instance')} of {count(report.studies, 'study')}, {megabytes(report.bytes)}, "
        "indexed in place",
        f"{count(report.read, 'file')} read, {report.unchanged:,} unchanged, {report.removed:,} removed",
    ]
    if unmatched:
        lines.append(f"{no_file(unmatched)}: compare PatientID and issuer with the files")
    if found:
        lines.append(f"{count(len(found), 'problem')}; what to do: {list_them}")
    return lines
