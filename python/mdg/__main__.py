"""The program `mdg`, also started as `python -m mdg`: imports the command line and runs it."""

import signal


def main() -> None:
    """Runs the command line. While it is imported Ctrl-C ends the process without the trace of an import."""
    untouched = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if untouched:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mdg.cli import main as command

    if untouched:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
