"""Find prompts that two data sets share, word for word or nearly: what is trained on must not be what is measured by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from swiftshell.data import near
from swiftshell.data.row import Row, text_of
from swiftshell.data.tally import prompt_key
from swiftshell.errors import Problem


class LeakIndex:
    """The prompts of one data set, by what they say; about 2 kB each if near ones are looked for."""

    def __init__(self, name: str, *, nearly: bool) -> None:
        self.name = name
        self.rows = 0
        self._nearly = nearly
        self._exact: dict[bytes, int] = {}
        self._signatures: list[tuple[int, bytes]] = []
        self._bands: dict[bytes, list[int]] = {}

    def fill(self, rows: Iterable[Row]) -> None:
        """Take the rows of the data set."""
        for row in rows:
            self.rows += 1
            self._exact.setdefault(prompt_key(row.data), row.number)
            found = self._shingles(row.data)
            if found:
                signature = near.signatures([found])[0]
                for band in near.bands(signature):
                    self._bands.setdefault(band, []).append(len(self._signatures))
                self._signatures.append((row.number, signature))

    def leaks(self, row: Row, data: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield the row of the index whose prompt is this row's, or nearly so; the nearest if there are several."""
        place = (row.file, row.line, None, row.number)
        if (number := self._exact.get(prompt_key(data))) is not None:
            yield Problem("deep.leak", {"other": self.name, "other_row": number}, *place, severity="warning")
            return
        found = self._shingles(data)
        if not found:
            return
        signature = near.signatures([found])[0]
        candidates = {at for band in near.bands(signature) for at in self._bands.get(band, ())}
        best = max(((near.alike(signature, self._signatures[at][1]), -at) for at in candidates), default=(0.0, 0))
        if best[0] >= near.ALIKE:
            values = {"other": self.name, "other_row": self._signatures[-best[1]][0], "percent": round(100 * best[0])}
            yield Problem("deep.leak_near", values, *place, severity="warning")

    def facts(self) -> dict[str, Any]:
        """Return what was compared with."""
        return {"path": self.name, "rows": self.rows, "nearly": self._nearly}

    def _shingles(self, data: Mapping[str, Any]) -> list[str]:
        if not self._nearly:
            return []
        found = near.shingles(prompt_text(data))
        return found if len(found) >= near.FEWEST_SHINGLES else []


def prompt_text(data: Mapping[str, Any]) -> str:
    """Return what is asked in a converted row, without system prompts; a text as a whole."""
    if "text" in data:
        return str(data["text"])
    turns = data.get("prompt") or data.get("messages", [])[:-1]
    return "\n".join(text_of(turn["content"]) for turn in turns if turn["role"] != "system")
