"""The kept list of mutants that no test kills, `survivors.txt`, and how a mutant is found in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("survivors.txt")


@dataclass
class Mutant:
    """A change of one function: its lines that went (`- ...`) and those that came (`+ ...`)."""

    module: str
    function: str
    lines: list[str]
    why: str = ""  # of an entry of the list
    name: str = ""  # mutmut's, of a mutant

    @classmethod
    def parse(cls, module: str, name: str, diff: str) -> Mutant:
        """From mutmut's name, `asgi_wsauth.sources.xǁHeaderǁextract__mutmut_3`, and its patch."""
        function = name.rpartition(".")[2].partition("__mutmut_")[0]
        function = function.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        patch = diff.partition("\n@@")[2].splitlines()[1:]
        lines = [line[0] + " " + line[1:].strip() for line in patch if line[:1] in ("-", "+")]
        return cls(module, function, lines, name=name)

    def covers(self, other: Mutant) -> bool:
        """Whether this entry of the list is about that mutant: the same function, and every line
        that the entry names among the mutant's."""
        same = (self.module, self.function) == (other.module, other.function)
        return same and set(self.lines) <= set(other.lines)

    def __str__(self) -> str:
        return "\n".join(filter(None, [f"{self.module} {self.function}", self.why, *self.lines]))


def read_entries(text: str | None = None) -> list[Mutant]:
    """The entries of the list: a line with module and function, the reason, and the lines that
    mutants change. Those that come may be left out, for whatever happens to a line; all of them,
    for whatever happens in the function. A `#` begins a comment."""
    entries = []
    for block in (LIST.read_text() if text is None else text).split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            module, function = lines[0].split()
            changed = [line for line in lines[1:] if line[:2] in ("- ", "+ ")]
            why = " ".join(line for line in lines[1:] if line not in changed)
            if not why:
                raise ValueError(f"no reason is given for {lines[0]}")
            entries += [Mutant(module, function, patch, why) for patch in _patches(changed)]
    return entries


def _patches(lines: list[str]) -> list[list[str]]:
    """One for each mutant: a line that goes begins a new one behind lines that came."""
    patches: list[list[str]] = [[]]
    for line in lines:
        if line[0] == "-" and patches[-1] and patches[-1][-1][0] == "+":
            patches.append([])
        patches[-1].append(line)
    return patches


def explained(
    survivors: Iterable[Mutant], entries: list[Mutant]
) -> tuple[list[Mutant], list[Mutant]]:
    """The survivors that no entry covers, and the entries that cover no survivor."""
    survivors = list(survivors)
    new = [mutant for mutant in survivors if not any(e.covers(mutant) for e in entries)]
    stale = [entry for entry in entries if not any(entry.covers(m) for m in survivors)]
    return new, stale
