"""The application that commands are added to, its help, and the options before a command."""

from collections.abc import Sequence
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

# Commands by what they are for, in the order of the help.
_SECTIONS = {
    "Your own files": ("sync", "localize", "separate", "classify", "embed", "probe"),
    "Training": ("quickstart", "pretrain", "evaluate", "linear-probe", "recipe"),
    "Data": ("world", "scan", "prepare", "audit"),
    "Models": ("models", "weights"),
}


class _Sections(TyperGroup):
    """A group whose help lists the commands by section, each with the whole first line of its help."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections; what is in none comes last."""
        listed = {name: self.get_command(context, name) for name in self.list_commands(context)}
        named = [name for names in _SECTIONS.values() for name in names]
        others = [name for name in listed if name not in named]
        for title, names in (*_SECTIONS.items(), ("Others", others)):
            rows = [(name, _summary(listed[name])) for name in names if name in listed and not listed[name].hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _summary(command: click.Command) -> str:
    """The first paragraph of a command's help."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def _group(**options: object) -> typer.Typer:
    return typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **options,
    )


app = _group(cls=_Sections)
recipe_app = _group(help="Look at recipes.")
app.add_typer(recipe_app, name="recipe")
weights_app = _group(help="Weights that were released for the encoders.")
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
        bool, typer.Option("--quiet", "-q", help="No progress, and no notes: results and errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Learns from the fact that things which move make sound. Start with: avlearn quickstart"""
    _use(plugins or (), quiet)


def _use(plugins: Sequence[str], quiet: bool) -> None:
    if quiet:
        from avlearn.terminal import be_quiet

        be_quiet()
    if plugins:
        from avlearn.plugins import use_plugins

        use_plugins(plugins)
