"""Puts examples in docstrings (lines of ``>>>``) into fences as the site is built: Markdown takes them for quotes."""

import re

import griffe

_EXAMPLE = re.compile(r"(?:^|\n)((?:>>> .*(?:\n(?!\s*\n).+)*\n?)+)")


class DocstringExamples(griffe.Extension):
    """An extension of griffe, which mkdocstrings reads docstrings by."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Change the docstring of an object."""
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = _EXAMPLE.sub(r"\n```pycon\n\1\n```\n", obj.docstring.value)
