"""Run all outstanding migrations in one transaction: `python -m headgate.kit.db.upgrade [PATH]`.

Without a path, on the database of HEADGATE_DATABASE_URL.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
from alembic import command
from alembic.config import Config

from headgate.kit import failpoint
from headgate.kit.db.engine import Database
from headgate.kit.db.migration import SCRIPTS, URL_VARIABLE


def migrate(database: Database, revision: str = "head", *, back: bool = False) -> None:
    """Migrate the database to a revision, forward or back, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    with database.transaction(exclusive=True) as connection:
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, revision)
        failpoint.failpoint("migration")


if __name__ == "__main__":
    # The starting process has checked its settings; this one reads only what it needs of them.
    is_test = os.environ.get("HEADGATE_TEST_MODE") or "false"
    failpoint.arm(
        os.environ.get("HEADGATE_FAILPOINT") or None,
        test_mode=msgspec.convert(is_test, bool, strict=False),
    )
    migrate(Database(Path(sys.argv[1]) if sys.argv[1:] else os.environ[URL_VARIABLE]))
