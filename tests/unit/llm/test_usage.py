from __future__ import annotations

import pytest

from headgate.llm.usage import Usage, read_usage


def test_chat_usage_is_read_with_all_details() -> None:
    assert read_usage(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {
                "cached_tokens": 40, "cache_write_tokens": 10, "audio_tokens": 5,
                "image_tokens": 6, "text_tokens": 89,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 20, "audio_tokens": 3, "accepted_prediction_tokens": 4,
                "rejected_prediction_tokens": 2,
            },
        }
    ) == Usage(
        input_tokens=100, cached_tokens=40, cache_write_tokens=10, input_audio_tokens=5,
        input_image_tokens=6, output_tokens=50, reasoning_tokens=20, output_audio_tokens=3,
        accepted_prediction_tokens=4, rejected_prediction_tokens=2,
    )  # fmt: skip


def test_responses_images_and_audio_usage_are_read() -> None:
    assert read_usage(
        {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 7,
         "output_tokens_details": {"reasoning_tokens": 6}}
    ) == Usage(input_tokens=9, cached_tokens=8, output_tokens=7, reasoning_tokens=6)  # fmt: skip
    assert read_usage(
        {"input_tokens": 9, "input_tokens_details": {"text_tokens": 1, "image_tokens": 8},
         "output_tokens": 7, "output_tokens_details": {"image_tokens": 6, "text_tokens": 1}}
    ) == Usage(
        input_tokens=9, input_image_tokens=8, output_tokens=7, output_image_tokens=6
    )  # fmt: skip
    assert read_usage(
        {"type": "tokens", "input_tokens": 9, "input_token_details": {"audio_tokens": 8}}
    ) == Usage(input_tokens=9, input_audio_tokens=8)


def test_duration_is_read_in_milliseconds() -> None:
    assert read_usage({"type": "duration", "seconds": 9}) == Usage(audio_milliseconds=9000)
    assert read_usage({"type": "duration", "seconds": 8.47}) == Usage(audio_milliseconds=8470)


@pytest.mark.parametrize("seconds", [None, -1, "9", True, float("nan"), float("inf"), 2**53])
def test_odd_duration_is_ignored(seconds: object) -> None:
    assert read_usage({"type": "duration", "seconds": seconds}) is None


def test_null_details_and_unknown_fields_count_as_not_reported() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": None, "prompt_tokens_details": None, "x": 9}
    assert read_usage(usage) == Usage(input_tokens=1)


@pytest.mark.parametrize(
    "number", [-1, 1.5, 1.0, "7", True, float("nan"), 2**53, 10**18, 10**400, [], {}]
)
def test_usage_with_a_number_that_is_no_count_is_ignored_whole(number: object) -> None:
    assert read_usage({"prompt_tokens": number, "completion_tokens": 1}) is None
    assert (
        read_usage({"input_tokens": 5, "input_tokens_details": {"cached_tokens": number}}) is None
    )


@pytest.mark.parametrize(
    "usage",
    [
        None, 7, "x", [], {}, {"total_tokens": 3}, {"prompt_tokens": None},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
        {"prompt_tokens": 3, "prompt_tokens_details": {"audio_tokens": 2, "image_tokens": 2}},
        {"completion_tokens": 1, "completion_tokens_details": {"audio_tokens": 2}},
        {"prompt_tokens": 1, "prompt_tokens_details": [1]},
    ],
)  # fmt: skip
def test_usage_that_states_nothing_or_does_not_add_up_is_ignored(usage: object) -> None:
    assert read_usage(usage) is None
