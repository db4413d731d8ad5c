"""The application that commands are added to, its help, and the options before a command."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# Commands by what they are for, in the order of the help.
_SECTIONS = {
    "Your own files": ("sync", "localize", "separate", "classify", "flow", "embed", "probe"),
    "Training": (
        "quickstart",
        "adapt",
        "pretrain",
        "finetune",
        "evaluate",
        "calibrate",
        "preview",
        "linear-probe",
        "recipe",
    ),
    "Data": ("world", "scan", "prepare", "audit"),
    "Models": ("explain", "models", "weights"),
}


class _Group(TyperGroup):
    """A group whose help lists the commands, each with the whole first paragraph of its help."""

    def sections(self, names: list[str]) -> dict[str, Sequence[str]]:
        """Commands by the title above them."""
        return {"Commands": names}

    # Typer has a copy of Click within, or imports Click, by its version: its classes are not named here.
    def format_commands(self, context: Any, formatter: Any) -> None:
        """Write the sections."""
        listed: dict[str, Any] = {name: self.get_command(context, name) for name in self.list_commands(context)}
        for title, names in self.sections(list(listed)).items():
            rows = [(name, _summary(listed[name])) for name in names if name in listed and not listed[name].hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class _All(_Group):
    """All commands, by what they are for; the options before a command may stand behind it, too."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Take words for the options of all commands, wherever they stand before a ``--``."""
        ended = args.index("--") if "--" in args else len(args)
        first, rest, words = [], [], iter(args[:ended])
        for word in words:
            if word in ("-q", "--quiet", "-v", "--verbose") or word.startswith("--plugin="):
                first.append(word)
            elif word == "--plugin":
                first += [word, *islice(words, 1)]
            else:
                rest.append(word)
        return super().parse_args(context, [*first, *rest, *args[ended:]])

    def sections(self, names: list[str]) -> dict[str, Sequence[str]]:
        """What is in none of ours comes last."""
        named = [name for ours in _SECTIONS.values() for name in ours]
        return {**_SECTIONS, "Others": [name for name in names if name not in named]}


class _Listing(_Group):
    """A group whose command ``list`` need not be named."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Put ``list`` before what names no command."""
        named = args and (args[0] in self.commands or args[0] in context.help_option_names)
        return super().parse_args(context, args if named else ["list", *args])


def _summary(command: Any) -> str:
    """The first paragraph of a command's help."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def _group(cls: type[_Group] = _Group, about: str | None = None) -> typer.Typer:
    return typer.Typer(
        cls=cls,
        help=about,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


app = _group(
    _All,
    about="Learns from the fact that things which move make sound.\n\nStart with: avlearn quickstart\n\n"
    "These options may stand behind the command, too.",
)
recipe_app = _group(about="Look at recipes.")
app.add_typer(recipe_app, name="recipe")
models_app = _group(_Listing, "List the encoders, or draw the stages of one: avlearn models show NAME")
app.add_typer(models_app, name="models")
weights_app = _group(about="Weights that were released for the encoders.")
app.add_typer(weights_app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        from avlearn import __version__

        typer.echo(f"avlearn {__version__}")
        raise typer.Exit


@app.callback()
def before_command(
    plugins: Annotated[
        list[str] | None,
        typer.Option("--plugin", metavar="MODULE", help="Import a module that adds tasks, encoders and more."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, no remarks: results, warnings and errors.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also where an error comes from, and what libraries log.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Do what the options before a command ask for."""
    if verbose:
        from avlearn.terminal import be_verbose

        be_verbose()
    if quiet:
        from avlearn.terminal import be_quiet

        be_quiet()
    if plugins:
        from avlearn.plugins import use_plugins

        use_plugins(plugins)
