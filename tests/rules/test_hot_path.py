"""The hot path carries nothing heavy, not even indirectly."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = {
    "sqlalchemy",
    "alembic",
    "pydantic",
    "fastapi",
    "jinja2",
    "psycopg",
    "typer",
    "starlette",
}
LIST_MODULES = (
    "import sys; import headgate.gateway.openai, headgate.gateway.protocol; "
    "print('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
)


def test_the_data_plane_imports_no_orm_validator_or_page_framework() -> None:
    listing = subprocess.run(
        [sys.executable, "-c", LIST_MODULES], check=True, capture_output=True, text=True
    )
    assert FORBIDDEN.isdisjoint(listing.stdout.split())
