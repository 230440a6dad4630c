"""Texts of others made harmless where they are shown, by one function an output form.

Utterances, labels and file names may hold what acts: escape sequences in a terminal, workflow
commands in the log of a job, markup in a summary. Each form's renderer applies its function at its
edge, to every line that it writes, whoever the line is from.
"""

from __future__ import annotations

import re
import unicodedata

# Control, format (which turn the direction of writing), surrogates, unassigned; line and paragraph
# separators. A soft hyphen and joiners within emoji and scripts are format characters that act on
# nothing.
ACTING = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
HARMLESS = frozenset("\u00ad\u200c\u200d\u2060")
# GitHub's runner takes a line for a command that begins with the first, or holds the second.
COMMANDS = re.compile(r"\A(?=\s*::)|(?<=#)(?=#\[)")
MARKUP = re.compile(
    r"!(?=\[)|(?<=\])(?=[(\[])|[`*~\\]|(?<![^\W_])_|_(?![^\W_])"  # within a line
    r"|^\[(?=[^\]]*\]:|[ xX]\])|^[#+=-](?=[\s#+=-]|$)|(?<=\d)(?=[.)](?:\s|$))"  # at its start
)
# A dollar may begin a formula.
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;"}
LINKS = re.compile(
    r"(?<=\w)(?=://)|(?<=[wW]{3})(?=\.)|(?<=@)|(?<!&#)(?<=#)(?=\d)|(?<=:)(?=[\w+-]+:)"
)
WORD_JOINER = "\u2060"


def for_terminal(line: str) -> str:
    """One line for a terminal, a log or a picture: what acts is shown by its number."""
    shown = "".join(_shown(character) for character in line)
    return COMMANDS.sub(lambda _: "\\", shown)


def for_markdown(line: str) -> str:
    """One line, or one cell, of GitHub's Markdown: nothing of it is markup or a mention."""
    # White space at its start would make a block of code of it.
    plain = for_terminal(line).lstrip()
    escaped = "".join(
        ENTITIES.get(each, each) for each in MARKUP.sub(lambda found: f"\\{found.group()}", plain)
    )
    # No link of a bare address or to an issue's number, no picture, and nobody is called by a name.
    return LINKS.sub(WORD_JOINER, escaped)


def for_command(text: str) -> str:
    """The message of a workflow command of GitHub's."""
    return for_terminal(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def for_command_property(text: str) -> str:
    """A property of one, as its title."""
    return for_command(text).replace(":", "%3A").replace(",", "%2C")


def lines_for_terminal(text: str) -> str:
    """Several lines for a terminal."""
    return "\n".join(for_terminal(line) for line in text.split("\n"))


def _shown(character: str) -> str:
    if character in HARMLESS or unicodedata.category(character) not in ACTING:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
