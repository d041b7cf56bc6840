"""Both rotations on PostgreSQL, where another process may commit between any two statements."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from headgate.kit import failpoint
from headgate.kit.failpoint import FailpointError
from headgate.vault.service import LocalMasterKey, Sealer
from tests.fakes.vault import VaultHarness
from tests.unit.vault.test_rotation import Operator, arm, fill, list_keys, read_secrets


def test_both_rotations_go_on_where_they_were_cut(postgres_url: str) -> None:
    harness = VaultHarness(cast("Any", postgres_url))
    try:
        secrets, old, target = fill(harness, 9), list_keys(harness), LocalMasterKey(os.urandom(32))
        arm("rotation_slice=raise@2,rotation_switch=raise")
        with pytest.raises(FailpointError):
            Operator(harness).keys()
        with pytest.raises(FailpointError):
            Operator(harness).master(target)
        assert read_secrets(harness) == secrets
        failpoint.arm()
        assert (Operator(harness).keys(), Operator(harness).master(target)) == (0, 0)
        assert read_secrets(harness, Sealer(target, harness.clock)) == secrets
        assert len(list_keys(harness) - old) == 3
        assert Operator(harness, target).faults() == []
    finally:
        failpoint.arm()
        harness.database.close()
