"""Counts the parts of JSON while it arrives, before anybody parses it.

A megabyte of text is cheap to validate, and a megabyte of `{},{},` takes a second in which the
process serves nobody.
"""

from __future__ import annotations

import re

_MARK = re.compile(rb'["\[{,]')
_TEXT = re.compile(rb'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+', re.DOTALL)


class JsonPartCount:
    """Count the texts, brackets and commas of a body, of JSON alone or in lines of events.

    No text has a line break in it, so that what is no JSON cannot hide what follows.
    """

    def __init__(self) -> None:
        self.parts = 0
        self._is_in_text = False
        self._is_escaped = False

    def add(self, data: bytes, parts_max: int) -> bool:
        """Count a piece; return whether there are at most so many parts still."""
        position = 0
        while self.parts <= parts_max:
            if self._is_in_text:
                position = self._skip_text(data, position)
            mark = _MARK.search(data, position)
            if self._is_in_text or mark is None:
                return True
            position = mark.end()
            self.parts += 1
            self._is_in_text = mark[0] == b'"'
        return False

    def _skip_text(self, data: bytes, position: int) -> int:
        """Return where the text ends, or the piece does."""
        if self._is_escaped and position < len(data):
            self._is_escaped = False
            position += 1
        found = _TEXT.match(data, position)
        end = len(data) if found is None else found.end()
        if end < len(data) and data[end : end + 1] != b"\\":
            self._is_in_text = False
            return end + 1
        self._is_escaped = end < len(data)
        return len(data)
