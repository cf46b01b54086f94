"""Code in documents: every block, what a comment before it says of it, and the commands in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

PROGRAMS = ("crosspol", "python", "pip", "make", "mkdocs", "git", "torchrun", "srun", "trtexec", "cd")
"""What a line of an indented block has to begin with to be a command; all other indented blocks are shown, not run."""

_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Block:
    """A block of code in a document.

    language: the first word after the fence; empty for an indented block.
    mark: what the comment right before it says: ``not run: needs a camera``, ``exit status 1``, ``file: own.yaml`` for
        a block that is a file which later ones name; else empty.
    """

    path: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def name(self) -> str:
        return f"{self.path.name}:{self.line}"

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("not run")

    @property
    def file(self) -> str | None:
        """Name of the file that the block is."""
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else None

    @property
    def commands(self) -> list[list[str]]:
        """Words of each command, without comments and variables set before it; of other blocks none."""
        if self.language not in ("", "bash"):
            return []
        joined = self.text.replace("\\\n", " ")
        words = [shlex.split(line, comments=True) for line in joined.splitlines() if self.language or _command(line)]
        found = []
        for command in words:
            while command and _ASSIGNMENT.fullmatch(command[0]):
                del command[0]
            if command:
                found.append(command)
        return found


def _command(line: str) -> bool:
    return line.partition(" ")[0] in PROGRAMS


def blocks(path: Path) -> Iterator[Block]:
    """All blocks of a document, in order."""
    mark = ""
    for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = _COMMENT.fullmatch(token.content.strip())
            mark = comment[1] if comment else ""
            continue
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            yield Block(path, token.map[0] + 1, token.info.strip(), token.content, mark)
        mark = ""
