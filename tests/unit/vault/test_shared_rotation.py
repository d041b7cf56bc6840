"""Both rotations on PostgreSQL, where another process may commit between any two statements."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from headgate.kit import failpoint
from headgate.kit.failpoint import FailpointError
from headgate.vault.service import LocalMasterKey, Sealer
from tests.fakes.safe import Safe
from tests.unit.vault.test_rotation import Operator, arm, fill, list_keys, read_secrets


def test_both_rotations_go_on_where_they_were_cut(postgres_url: str) -> None:
    safe = Safe(cast("Any", postgres_url))
    try:
        secrets, old, target = fill(safe, 9), list_keys(safe), LocalMasterKey(os.urandom(32))
        arm("rotation_slice=raise@2,rotation_switch=raise")
        with pytest.raises(FailpointError):
            Operator(safe).keys()
        with pytest.raises(FailpointError):
            Operator(safe).master(target)
        assert read_secrets(safe) == secrets
        failpoint.arm()
        assert (Operator(safe).keys(), Operator(safe).master(target)) == (0, 0)
        assert read_secrets(safe, Sealer(target, safe.clock)) == secrets
        assert len(list_keys(safe) - old) == 3
        assert Operator(safe, target).faults() == []
    finally:
        failpoint.arm()
        safe.database.close()
