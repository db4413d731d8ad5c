"""The command line: each command parses, calls, prints. What is heavy is imported inside."""

import sys
import traceback
from typing import NoReturn

# They add their commands.
from avlearn.cli import (  # noqa: F401
    adapt,
    calibrate,
    classify,
    data,
    embed,
    evaluate,
    explain,
    flow,
    localize,
    models,
    preview,
    probe,
    separate,
    sync,
    training,
)
from avlearn.cli.app import app
from avlearn.errors import AvlearnError
from avlearn.files import is_file
from avlearn.interrupts import STOPPED, exit_code, first_interrupt, raise_on_signals
from avlearn.terminal import is_verbose, terminal

__all__ = ["app", "main"]


def _arguments(given: list[str]) -> list[str]:
    """The words of a command, where files whose names begin with a dash are no options."""
    options = given[: given.index("--")] if "--" in given else given
    meant = [f"./{word}" if word.startswith("-") and "." in word and is_file(word) else word for word in options]
    return meant + given[len(options) :]


def main() -> None:
    """Run; what the user can mend becomes one line and the error's exit code. SIGTERM acts as Ctrl-C."""
    raise_on_signals()
    with terminal():
        try:
            app(_arguments(sys.argv[1:]))
        except AvlearnError as error:
            if is_verbose():
                traceback.print_exc()
            print(f"avlearn: error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except STOPPED as error:
            _end_stopped(error)
        except SystemExit as end:
            # Typer ends a Ctrl-C that no command took with code 130, and without a word.
            if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
                print("avlearn: stopped", file=sys.stderr)
            raise
        except Exception as error:  # whatever a module makes of an order to end that breaks its import off
            if (order := first_interrupt()) is not None:
                _end_stopped(order)
            if isinstance(error, UnicodeError) and sys.getfilesystemencoding() != "utf-8":
                _end_unnamed(error)
            raise


def _end_stopped(order: BaseException) -> NoReturn:
    print("avlearn: stopped", file=sys.stderr)
    sys.exit(exit_code(order))


def _end_unnamed(error: UnicodeError) -> NoReturn:
    """End where the locale can hold few names: Python encodes them wherever a file is touched."""
    print(f"avlearn: error: names are {sys.getfilesystemencoding()} here ({error}): set PYTHONUTF8=1", file=sys.stderr)
    sys.exit(2)
