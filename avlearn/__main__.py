"""``python -m avlearn``."""

import signal


def main() -> None:
    """Run the command line; Ctrl-C before it is there ends without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from avlearn.cli import main as run

    run()


if __name__ == "__main__":
    main()
