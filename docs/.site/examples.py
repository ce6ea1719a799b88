"""The docstrings' examples, as blocks of code."""

import re

import griffe

EXAMPLE = re.compile(r"^Example:\n\n((?:>>>|\.\.\. )(?:.+\n?)+)", flags=re.MULTILINE)


class Examples(griffe.Extension):
    """Indent what stands below "Example:", as Google's style has it below "Examples:"."""

    def on_instance(self, *, obj, **_):
        """Rewrite a docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(_indented, obj.docstring.value)


def _indented(match):
    lines = match[1].splitlines()
    return "\n".join(["Examples:", *(f"    {line}" for line in lines), ""])
