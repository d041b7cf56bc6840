from __future__ import annotations

from headgate.llm.vmx_names import to_own_names, to_vmx_names

THEIRS = {
    "model": {"provider": "openai", "connectionId": "c", "connectionName": "n", "maxRetries": 1},
    "fallbackModels": [{"timeoutMs": 1000}],
    "defaultArgs": {"logitBias": {"someKey": 1}},
    "routing": {"conditions": [{"then": {"connectionName": "x"}}]},
}
OWN = {
    "model": {"provider": "openai", "credential_id": "c", "credential_name": "n", "max_retries": 1},
    "fallback_models": [{"timeout_ms": 1000}],
    "default_args": {"logitBias": {"someKey": 1}},
    "routing": {"conditions": [{"then": {"credential_name": "x"}}]},
}


def test_names_are_translated_and_arguments_of_the_provider_are_not() -> None:
    assert to_own_names(THEIRS) == OWN
    assert to_vmx_names(OWN) == THEIRS


def test_own_names_are_understood_as_they_are() -> None:
    assert to_own_names(OWN) == OWN
