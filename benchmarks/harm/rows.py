"""What a harm did, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: Was done, in words.
        times: How often.
        promise: What must hold each time.
        failures: What did not, in words; none is the aim.
        notes: Other counts by name.
    """

    what: str
    promise: str
    times: int = 0
    failures: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def check(self, fine: bool, otherwise: str) -> None:
        """Note what is wrong unless all is fine."""
        if not fine:
            text = " ".join(otherwise.split())
            at = text.find("Traceback")
            self.failures.append(text[-1200:] if at < 0 else text[at : at + 1200])

    def count(self, name: str, more: int = 1) -> None:
        """Add to a note."""
        self.notes[name] = self.notes.get(name, 0) + more


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what was done | how often | what held | failures |", "| --- | --- | --- | --- |"]
    for row in rows:
        notes = "".join(f"; {name}: {count}" for name, count in row.notes.items())
        lines.append(f"| {row.what} | {row.times} | {row.promise}{notes} | {len(row.failures)} |")
    return "\n".join(lines)
