"""The command `mdg`: one file per verb, one word per verb here.

To add a command write `cli/<verb>.py` with a function of that name whose docstring is its help (or an `app` with
functions of its own), and name it below. A run imports the file of its verb only, and verb files import the rooms
inside the function, so that each starts at once. A verb returns when it is done, raises `mdg.errors.MdgError` when it
is not, and `typer.Exit(1)` when it ran and the answer is no.

Exit codes: 0 done, 1 the answer is no or an internal fault, 2 usage, 3 refused (content or signature), 4 input/output,
129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType

import typer

from mdg.cli.terminal import complain
from mdg.errors import InputOutput, MdgError, Misuse, Unavailable

VERBS = (
    "keygen",
    "pack",
    "inspect",
    "verify",
    "open",
    "index",
    "locate",
    "find",
    "fetch",
    "retrieve",
    "revoke",
    "consent",
    "jobs",
    "init",
    "serve",
    "demo",
    "sandbox",
    "audit",
    "config",
)

HELP = """Medical Data Gateway: find, release, seal and verify medical imaging between organisations.

\b
mdg demo                                     see it, in about a minute
mdg serve --folder DIR --sandbox             a gateway beside a folder of DICOM
mdg init                                     a settings file for a gateway that stays
mdg index --problems                         what in it is not served, and why
mdg keygen --out KEYS --name ME --id URI     your keys, and the card to give away
mdg pack STUDY --to CARD --sign KEY -o FILE  one study, sealed for its receiver
mdg open FILE --trust CARD --key KEY -o DIR  what came, if every byte is proved

`mdg COMMAND --help` says more. Exit codes: 0 done, 1 the answer is no, 2 usage, 3 refused, 4 input or output.
"""


def command_line(verbs: Collection[str] = VERBS) -> typer.Typer:
    """`mdg` with these verbs. Typer reads the parameters of all that it is given before it runs one."""
    app = typer.Typer(
        name="mdg",
        help=HELP,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_root)
    for verb in verbs:
        module = import_module(f"mdg.cli.{verb}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
        else:
            app.command()(getattr(module, verb))
    return app


def _root(context: typer.Context, version: bool = typer.Option(False, "--version", help="print the version")) -> None:
    if version:
        from mdg import __version__

        typer.echo(f"mdg {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(Misuse.exit_code)


def run(arguments: Sequence[str]) -> int:
    """One command; returns the exit code. With `--json` a failure is one JSON object on standard output as well."""
    as_json = "--json" in arguments
    verb = arguments[:1]
    stopped = _stop_as_interrupt()
    try:
        app = command_line(verb) if verb and verb[0] in VERBS else command_line()
        code = int(app(args=list(arguments), prog_name="mdg", standalone_mode=False) or 0)
        return 128 + stopped[-1] if stopped and code == 130 else code  # typer makes 130 of each interrupt
    except (MdgError, typer.TyperException) as error:
        return complain(_told(error), as_json)
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- the reader has gone: nothing is left to tell it
        return 0
    except OSError as error:
        return complain(InputOutput(str(error.filename or "system"), error.strerror or type(error).__name__), as_json)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + (stopped[-1] if stopped else signal.SIGINT)
    except Exception as error:  # a fault of ours: its trace may hold what nobody should see, so it is asked for
        if sys.flags.dev_mode:
            raise
        return complain(_fault(error, arguments), as_json)


def _fault(error: Exception, arguments: Sequence[str]) -> MdgError:
    """What to do about an error that is no refusal: install the part of mdg that the command needs, or report it."""
    verb = next(iter(arguments), "")
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("mdg"):
        images = verb == "demo" or list(arguments[:2]) == ["sandbox", "study"]
        part = "demo" if images or error.name.partition(".")[0] in ("PIL", "pydicom") else "gateway"
        missing = Misuse(f"this command needs mdg[{part}], which is not installed here (no module {error.name})")
        missing.add_note(f"{sys.executable} -m pip install 'mdg[{part}]'")
        return missing
    fault = MdgError(f"internal fault ({type(error).__name__})")
    fault.add_note(f"{sys.executable} -X dev -m mdg.cli {verb} … shows where; please report it")
    return fault


def _stop_as_interrupt() -> list[int]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, so that nothing half written stays. Returns the list that will
    hold the signals that came; a signal that the caller ignores (nohup) stays ignored."""
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, interrupt)
    return came


def _told(error: MdgError | typer.TyperException) -> MdgError:
    """What a person is told of an error: of a store that failed, which one and why."""
    if not isinstance(error, MdgError):
        return _usage(error)
    return (error.failure if isinstance(error, Unavailable) else None) or error


def _usage(error: typer.TyperException) -> Misuse:
    """What the parser of the command line found, with the help page that answers it."""
    misuse = Misuse(error.format_message())
    context = getattr(error, "ctx", None)
    misuse.add_note(f"{context.command_path if context else 'mdg'} --help")
    return misuse


def main() -> None:
    """The console script."""
    gc.set_threshold(
        50_000
    )  # a start makes tens of thousands of objects, all of which stay: looking for garbage is 6 % of it
    for name in ("stdin", "stdout", "stderr"):  # closed by the caller: its number must not become a database's
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115 -- for good
    sys.exit(run(sys.argv[1:]))
