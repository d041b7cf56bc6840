"""Write docs/openapi.json, the platform API's description: `python tools/openapi.py`."""

from __future__ import annotations

from pathlib import Path

from headgate.api.openapi import build_document
from headgate.api.platform import encode_document
from headgate.api.routes import ALL

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def main() -> None:
    DOCUMENT.write_bytes(encode_document(build_document(ALL)))


if __name__ == "__main__":
    main()
