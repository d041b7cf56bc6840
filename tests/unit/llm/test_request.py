from __future__ import annotations

import msgspec
import pytest

from headgate.llm import request


def test_fields_that_the_gateway_acts_on_are_read() -> None:
    found = request.decode(
        b'{"model":"m","stream":true,"background":true,"n":3,"max_tokens":5,'
        b'"max_completion_tokens":9,"stream_options":{"include_usage":true,"x":[1]},"other":{}}'
    )
    assert (found.model, found.stream, found.background, found.n) == ("m", True, True, 3)
    assert found.includes_usage
    assert found.output_tokens_max == 9


def test_null_counts_as_absent() -> None:
    found = request.decode(b'{"model":null,"stream":null,"n":null,"stream_options":null}')
    assert found == request.decode(found.body)
    assert (found.model, found.stream, found.n, found.output_tokens_max) == (
        None,
        False,
        None,
        None,
    )


def test_unchanged_request_is_the_same_object() -> None:
    found = request.decode(b'{ "model" : "m", "stream_options":{"include_usage": true} }')
    assert found.with_model("m").with_usage_asked().with_envelopes_removed() is found


def test_changes_leave_every_other_value_byte_for_byte() -> None:
    body = b'{"a": [1, 2.50 ,"\\u00e9"],"vmx":{"x":1},"model":"m","z":1e5,"__vmx_passthrough":0}'
    changed = request.decode(body).with_envelopes_removed().with_model('w"x').with_usage_asked()
    assert changed.body == (
        b'{"a": [1, 2.50 ,"\\u00e9"],"model":"w\\"x","z":1e5,'
        b'"stream_options":{"include_usage":true}}'
    )
    assert changed == request.decode(changed.body)


@pytest.mark.parametrize("options", [b"null", b"{}", b'{"include_usage":false}'])
def test_usage_is_asked_whatever_the_options_were(options: bytes) -> None:
    changed = request.decode(b'{"stream_options":%b}' % options).with_usage_asked()
    assert changed.body == b'{"stream_options":{"include_usage":true}}'


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (
            b' {"stream" : true }\n',
            b' {"stream" : true ,"stream_options":{"include_usage":true}}\n',
        ),
        (
            b'{"stream_options": {"x" : false} , "stream":true}',
            b'{"stream_options": {"x" : false,"include_usage":true} , "stream":true}',
        ),
        (
            b'{"stream_options":{ "include_usage" : null, "x":[ 1 ] }, "stream":true}',
            b'{"stream_options":{ "include_usage" : true, "x":[ 1 ] }, "stream":true}',
        ),
        (
            b'{"stream":true,\t"stream_options"\t: null, "a": "}"}',
            b'{"stream":true,\t"stream_options"\t: {"include_usage":true}, "a": "}"}',
        ),
    ],
)
def test_usage_is_asked_by_bytes_among_bytes_that_stay(body: bytes, asked: bytes) -> None:
    assert request.decode(body).with_usage_asked().body == asked


def test_model_and_envelopes_change_by_their_own_bytes_alone() -> None:
    body = b'{ "vmx" : {"a":1} ,\n"model" : "m" , "messages" : [ ] ,\t"__vmx_passthrough":[] }'
    found = request.decode(body).with_envelopes_removed()
    assert found.body == b'{ "model" : "m" , "messages" : [ ] }'
    assert found.with_model("other").body == b'{ "model" : "other" , "messages" : [ ] }'


def test_other_stream_options_are_kept() -> None:
    body = b'{"stream_options":{"include_obfuscation":false}}'
    fields = msgspec.json.decode(request.decode(body).with_usage_asked().body)
    assert fields == {"stream_options": {"include_obfuscation": False, "include_usage": True}}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b'{"a":1}x', b"\xef\xbb\xbf{}", b'{"model":"\xff"}', b'{"a":nan}',
             b'{"model":7',
             b'{"a":' * 100_000]
)  # fmt: skip
def test_malformed_json_is_refused(body: bytes) -> None:
    with pytest.raises(request.InvalidJsonError) as caught:
        request.decode(body)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"7"])
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(request.InvalidTypeError, match="expected an object"):
        request.decode(body)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b'{"model":7}', "model", "expected a string, but got a number"),
        (b'{"model":["m"]}', "model", "got an array"),
        (b'{"stream":"true"}', "stream", "expected a boolean, but got a string"),
        (b'{"stream":1}', "stream", "got a number"),
        (b'{"background":{}}', "background", "got an object"),
        (b'{"stream_options":true}', "stream_options", "got a boolean"),
        (b'{"stream_options":{"include_usage":1}}', "stream_options", "expected an object"),
        (b'{"n":"3"}', "n", "expected an integer, but got a string"),
        (b'{"n":1.5}', "n", "expected an integer"),
        (b'{"max_output_tokens":[]}', "max_output_tokens", "expected an integer"),
    ],
)
def test_field_of_the_wrong_type_is_named(body: bytes, param: str, message: str) -> None:
    with pytest.raises(request.InvalidTypeError, match=message) as caught:
        request.decode(body)
    assert caught.value.param == param
    assert caught.value.code == "invalid_type"


def test_wrong_type_hidden_behind_a_repeated_key_is_refused() -> None:
    with pytest.raises(request.InvalidJsonError, match="'model' comes twice"):
        request.decode(b'{"model":7,"model":"m"}')


def test_model_that_is_no_name_is_refused_before_it_is_stored_anywhere() -> None:
    with pytest.raises(request.InvalidRequestError, match="at most 256 characters") as raised:
        request.decode(b'{"model":"%b"}' % (b"m" * 257))
    assert raised.value.param == "model"
