"""All checks with their seeds, and the words of their input language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rigs.fuzz.checks import (
    actions,
    answers,
    conversions,
    edge,
    envelopes,
    media,
    network,
    requests,
    rules,
    streams,
    tools,
    vault,
)

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
REGRESSIONS = GOLDEN / "fuzz"
"""Inputs that once broke a check, one folder for each target; every test run tries them again."""


@dataclass(frozen=True)
class Target:
    """Describe a check.

    `words` are what its inputs consist of; `seeds` are patterns below tests/golden. With `ordered`,
    the first byte of an input selects what the check does. `bytes_max` limits inputs for atheris:
    checks that feed byte by byte get more tries with short ones.
    """

    name: str
    check: Callable[[bytes], None]
    words: tuple[bytes, ...]
    seeds: tuple[str, ...] = ()
    samples: tuple[bytes, ...] = ()
    ordered: bool = False
    bytes_max: int = 4096

    def read_seeds(self) -> Iterator[bytes]:
        """Return whole inputs to begin with."""
        paths = sorted(path for pattern in self.seeds for path in GOLDEN.glob(pattern))
        for number, content in enumerate([*self.samples, *(path.read_bytes() for path in paths)]):
            yield bytes([number % 16]) + content if self.ordered else content

    def read_short_seeds(self) -> Iterator[bytes]:
        """Return the seeds that are short enough, and beginning and end of the others."""
        for seed in self.read_seeds():
            yield seed[: self.bytes_max]
            if len(seed) > self.bytes_max:
                yield seed[:1] + seed[1 - self.bytes_max :]

    def read_regressions(self) -> list[tuple[str, bytes]]:
        """Return names and contents of the inputs that once broke this check."""
        paths = sorted((REGRESSIONS / self.name).glob("*"))
        return [(path.name, path.read_bytes()) for path in paths]


_PICTURES = (
    b"\x89PNG\r\n\x1a\n", b"\0\0\0\rIHDR", b"GIF89a", b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X",
    b"\xff\xd8", b"\xff\xc0", b"\xff\xe1", b"\xff", b"\0\x10", b"\0\0\x02\x80", b"\0",
)  # fmt: skip
_PICTURE_SAMPLES = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0",
    b"\xff\xd8\xff\xe1\0\x04ab\xff\xc0\0\x11\x08\x01\xe0\x02\x80",
    b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 14,
)
_DOCUMENTS = (
    b"%PDF-1.7\n", b"/Type /Page", b"/Count 3", b"stream\n", b"endstream", b"BT", b"ET", b"(", b")",
    b"<", b">", b"\\", b"Tj", b"x\x9c", b"/Type",
)  # fmt: skip
_CONTENT_URLS = (
    b"https://", b"http://", b"a.example", b":443", b"/", b"?", b"#", b"@", b"[::1]", b"%", b"\\",
    b"127.0.0.1", b" ", b"\xc3\xa9", b"..",
)  # fmt: skip
_REDIRECTS = (
    b"https://", b"http://", b"cursor://", b"com.example.app:/", b"javascript:", b"localhost",
    b"127.0.0.1", b"[::1]", b":443", b"@", b"\\", b"#", b"?", b"%00", b"a.example", b"/cb", b"//",
)  # fmt: skip
_REDIRECT_SAMPLES = (b"https://a.example/cb", b"http://localhost:80/cb", b"cursor://a/b")
_MESSAGES = (
    b'{"model":"gpt-5.4","max_tokens":9,"messages":[{"role":"user","content":[', b"]}]}", b",",
    b'{"type":"text","text":"x"}', b'{"type":"image","source":{"type":"base64","media_type":',
    b'"image/png","data":"iVBORw0KGgo="}}', b'{"type":"tool_result","tool_use_id":"a"}', b"null",
    b'{"type":"tool_use","id":"a","name":"b","input":{}}', b'{"role":"assistant","content":[',
    b'{"type":"document","source":{"type":"url","url":"https://a.example"}}', b"}",
    b'{"type":"thinking"}',
    b'"tools":[{"name":"b","input_schema":{"type":"object"}}]', b'"system":"x"', b'"stream":true',
)  # fmt: skip
_MESSAGES_SAMPLES = (
    b'{"model":"gpt-5.4","max_tokens":9,"messages":[{"role":"user","content":"x"}]}',
    _MESSAGES[0] + _MESSAGES[4] + b"," + _MESSAGES[5] + _MESSAGES[6] + _MESSAGES[1],
)
_MODELS = (
    b'{"data":[', b'{"id":"a"}', b'{"id":"a","x":[1.50,{}]}', b'{"headgate":1,"id":"b"}', b"{}",
    b"]}", b",", b" ", b"\n", b'"object":"list"', b'{"id":1}', b"null", b'{"id":"\\u00e9"}',
)  # fmt: skip
_MODELS_SAMPLES = (
    b'{"object":"list","data":[{"id":"a", "created":1.50 } , {"headgate":{},"id":"b"}],"x":1.0 }',
    b' {"id":"a","z":"}"} \n',
    b"{}",
)
_EVENTS = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\xef\xbb\xbf", b": ping", b"data: ",
    b"data:", b"data", b"event: ", b"event: error\n", b"id: 7\n", b"retry: x\n",
)  # fmt: skip
_CHUNKS = (
    b"[DONE]", b'{"usage":null}', b'{"choices":[1]}', b'{"choices":{}}', b'{"error":[]}',
    b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}', b'{"choices":[],"usage":{}}',
    b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
    b'{"choices":[{"delta":{"content":"h\xc3\xa9"}}]}', b'{"error":{"code":"x"}}',
    b'{"\\u0065rror":{"type":7}}', b'{"a":"\\ud800"}', b"{", b"[[[[[[[[[", b'"usage":', b"1e999",
    b'{"type":"response.completed","response":{"usage":{"input_tokens":1},"output":[1]}}',
    b'{"type":"response.output_text.delta","delta":"x"}', b'{"type":7,"delta":{}}',
    b'data: {"type":"speech.audio.delta","audio":"',
    b'event: image_edit.partial_image\ndata: {"type"',
    b'data: {"type":"image_generation.partial_image",', b'{"type":"image_generation.completed"}',
    b'{"type":"transcript.text.done","usage":{"type":"duration","seconds":1e999}}',
    b'{"data":[1,2],"usage":{"input_tokens":9,"output_tokens":4}}', b'"web_search_call"',
    b"9007199254740992", b'{"type":"duration","seconds":-0.5}', b'"cached_tokens":', b"NaN",
)  # fmt: skip
_JSON = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b'"model"', b'"stream"', b"true", b"false", b"null",
    b'"stream_options":{"include_usage":true}', b'"stream_options":{"x":1}', b'"n":', b"1e5",
    b'"vmx":{}', b'"__vmx_passthrough":1', b'"\\u0076mx":1', b'"max_tokens":', b"\\ud800", b"\xff",
    b'"model":"m"', b'{"model":"m",', b"-0", b"NaN", b"\xef\xbb\xbf", b" ", b'"background":true',
)  # fmt: skip
_FORM = (
    b"multipart/form-data; boundary=b0\n", b"--b0", b"--b0--", b"--", b"\r\n", b"\n", b"\r\n\r\n",
    b'content-disposition: form-data; name="model"', b'; filename="x"', b'; name="n"', b"; name=n",
    b"; name*=utf-8''n", b"\r\ncontent-transfer-encoding: base64", b"gpt-4o", b"4", b"\\", b'"',
    b'--b0\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n', b" \t", b":",
    b'--b0\r\ncontent-disposition: form-data; name="n"\r\n\r\n2\r\n',
)  # fmt: skip
_TOOLS = (
    b'{"name":"a","input_schema":{', b"}}", b"}", b"{", b",", b":", b'"properties":{', b'"a":{',
    b'"$ref":"#/$defs/a"', b'"$ref":"#"', b'"$defs":{', b'"anyOf":[{}', b"]", b'"$id":"x"',
    b'"pattern":"(a+)+$"', b'"type":"object"', b'"type":["string"]', b'"description":"\\u202e"',
    b'"const":"\\ud800"', b'"enum":[1,true]', b'"items":', b"[", b'"title":"\\u0000"', b"1e999",
)  # fmt: skip
_TOOLS_SAMPLES = (
    b'{"name":"a","title":"b","description":"c","input_schema":{"properties":{"a":{"type":'
    b'"integer"}}},"output_schema":{"type":"object"},"annotations":{"readOnlyHint":true}}',
    b'{"name":"a/b","input_schema":{"$defs":{"n":{"properties":{"a":{"$ref":"#/$defs/n"}}}},'
    b'"properties":{"a":{"anyOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n"}]}}}}',
)
_ENVELOPE = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"1",
        b"100",
        b"1e9",
        b"-1",
        b'"a"',
        b'"\\r\\n"',
    ),
    *(b'"correlationId":', b'"metadata":{"a":"b"}', b'"timeoutMs":500', b'"providerArgs":'),
    *(b'"secondaryModelIndex":0', b'"resourceConfigOverrides":{}', b'{"model":"x","n":2}'),
    *(b'"\\ud83d\\ude00"', b'"\\u0000"', b'"stream":true', b'"__vmx_passthrough":1'),
)
_ENVELOPE_SAMPLE = (
    b'{"correlationId":"a\\r\\nb","metadata":{"K y":"v\\n"},"timeoutMs":500,'
    b'"providerArgs":{"n":2,"model":"x"}}'
)
_SIGNATURE = (b"t=1,", b"nonce=0123456789abcdef,", b"sha256=" + b"0" * 64, b",v1=" + b"f" * 64)
_SIGNATURE_SAMPLE = b"".join(_SIGNATURE)
_FORM_SAMPLE = b"".join([_FORM[0], _FORM[17], _FORM[20], _FORM[2], b"\r\n"])
_ADVICE = (
    b"a:", b"ab:", b"abc:", b"abcd:", b"\n", b"1", b"0.5", b"6m0s", b"1h2m3s", b"120ms", b"1d",
    b"Wed, 21 Oct 2026 07:28:00 GMT", b"Oct", b"GMT", b"-1", b"inf", b"999999999", b".",
    b"\xd9\xa1", b" ", b"0000", b"24:60:61",
)  # fmt: skip
_URL = (
    b"https://", b"http://", b"HTTP://", b"ftp://", b"host.example", b"127.0.0.1", b"[::1]", b":80",
    b":0", b":65536", b"/v1", b"/", b"//", b"..", b".", b"%2e", b"%2f", b"%00", b"@", b"?", b"#",
    b"\\", b"user:pw@", b"xn--", b"\xc5\xbf", b"\xe2\x91\xa0", b"0x7f.1", b"[v1.x]", b"%25eth0",
    b"[::ffff:1.2.3.4]", b"_", b"-", b" ", b"\t", b"\n", b";", b":",
)  # fmt: skip
_HOSTS = (
    b"127.0.0.1", b"localhost", b"a", b".", b"-", b"_", b":", b"[::1]", b"::1", b"0x7f", b"0177",
    b"2130706433", b"1", b"8.8.8.8", b"2001:4860::8888", b"%", b"xn--", b":80", b":99999", b"[",
    b"::ffff:", b"64:ff9b::", b"2002:", b"]", b"/", b"@", b"\xe2\x91\xa0", b"*",
)  # fmt: skip
_FORWARDED = (
    b"a:", b"ab:", b"\n", b",", b", ", b"for=", b"10.0.0.2", b"203.0.113.5", b"[2001:db8::1]:80",
    b'"[2001:db8::1]"', b";", b"proto=https", b'"', b"\\", b"unknown", b"_hidden", b":80",
    b"::ffff:1.2.3.4", b"by=x", b"%eth0", b" ", b"\t", b"\xff",
)  # fmt: skip
_ADDRESSES = (
    b"\x7f\0\0\1", b"\xa9\xfe\xa9\xfe", b"\0\x64\xff\x9b", b"\x20\x02", b"\xfe\xc0", b"\xff\x02",
    b"\0\0\0\0\0\0\0\0\0\0\xff\xff", b"\x08\x08\x08\x08", b"\x20\x01\x48\x60", b"\x20\x01\0\0",
)  # fmt: skip
_CODED = (
    b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x78\x9c", b"\x28\xb5\x2f\xfd", b"\x03\0",
    b"\xff\xff\xff\x03", b"\0", b"\x01\0\0\xff\xff",
    b"\x4b\x4c\x4a\x06\0", b"\xcb\x48\xcd\xc9\xc9\x07\0",
)  # fmt: skip
_CODED_SAMPLES = (
    b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xcb\x48\xcd\xc9\xc9\x07\0\x86\xa6\x10\x36\x05\0\0\0",
    b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x07\0\x06\x2c\x02\x15",
    b"\x8b\x02\x80hello\x03",
    b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello",
)
_HTTP = (
    b"GET /v1/x HTTP/1.1\r\n", b"POST /v1/x HTTP/1.1\r\n", b"host: a\r\n", b"\r\n", b"\n", b"abc",
    b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n",
    b"connection: close\r\n", b"expect: 100-continue\r\n", b"HTTP/1.0", b" HTTP/1.1\r\n", b" ",
    b"transfer-encoding: identity\r\n", b"upgrade: h2c\r\n", b"content-length: +3\r\n", b"\0",
    b"POST http://a/v1/y HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"x: \r\n y\r\n", b"\r", b"\t",
    b"GET  /v1/x HTTP/1.1\r\n", b"ffffffffffffffff\r\n", b"0\r\nhost: b\r\n\r\n", b"/", b"#", b"?",
    b"PRI * HTTP/2.0", b";x=y", b"\r\n\r\n",
)  # fmt: skip
_POST = b"POST /v1/x HTTP/1.1\r\nhost: a\r\n"
_HTTP_SAMPLES = (
    _POST + b"content-length: 3\r\n\r\nabcGET /v1/y HTTP/1.1\r\nhost: a\r\n\r\n",
    _POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nhost: a\r\n\r\nGET /v1/x HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST http://a/v1/x HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
)
_RULES = (
    b"request", b".messages", b".model", b"metadata", b"tokens.input", b"['team']", b"[0]", b"(",
    b")", b" == ", b" && ", b"!", b"?.", b".exists(m, ", b".matches('", b"'", b"1", b"1.5", b"true",
    b"errorRate(5)", b"capacityUsage('hour')", b".limits", b"{", b"}", b"a{2,3}", b"(a+)+", b",",
)  # fmt: skip
_RULES_SAMPLES = (
    b"request.messages.exists(m, m.content.matches('H.*'))",
    b"errorRate(5, 429) > 1.0 || capacityUsage().limits == []",
    b"<% return (await capacityUsage('hour'))?.totalTokens %>",
    b"request.messages[-1]?.content.length",
)
_FIELDS = (
    b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"1", b"-1", b'""', b'"x"', b'"type":',
    b'"role":', b'"content":', b'"user"', b'"assistant"', b'"tool"', b'"text"', b'"input_text"',
    b'"messages":[', b'"input":[', b'"tools":[', b'"tool_calls":[', b'"function"', b'"name":',
    b'"arguments":', b'"id":', b'"call_id":', b'"tool_call_id":', b'"tool_result"', b'"stop":',
)  # fmt: skip
_REQUESTS = (
    b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"x"},'
    b'{"type":"image","source":{"type":"url","url":"u"}}]},{"role":"assistant","content":[{"type":'
    b'"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result",'
    b'"tool_use_id":"a","content":"1"}]}],"tools":[{"name":"f","input_schema":{}}],"n":1}',
    b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":'
    b'"u"}}]},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function",'
    b'"function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"'
    b'}],"tools":[{"type":"function","function":{"name":"f"}}],"stop":["x"],"tool_choice":"auto"}',
    b'{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]},{"type":'
    b'"function_call","call_id":"a","name":"f","arguments":"{}"},{"type":"function_call_output",'
    b'"call_id":"a","output":"1"}],"tools":[{"type":"function","name":"f","parameters":{}}]}',
)
_ITEMS = (
    b'{"type":"response.created","response":{"id":"resp_1"}}\n', b'{"type":"error"}\n',
    b'{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}\n',
    b'{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call",'
    b'"call_id":"a","name":"f"}}\n', b'{"type":"response.output_item.done","output_index":1}\n',
    b'{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"EN"}\n',
    b'{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{}"}\n',
    b'{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":['
    b'{"type":"output_text","text":"END"}]}}\n',
    b'{"type":"response.completed","response":{"id":"resp_1","output":[{"type":"reasoning"}]}}\n',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}\n',
    b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f",'
    b'"arguments":"{"}}]}}]}\n', b'{"choices":[{"delta":{},"finish_reason":"stop"}]}\n',
    b'{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}}]}\n',
    b'{"choices":[{"delta":{"reasoning_content":"hm","refusal":"no"}}],"usage":{}}\n',
)  # fmt: skip

_ACTION_WORDS = (
    *(b'"prompt"', b'"messages"', b'"query"', b'"model"', b'"input"', b'"n"', b'"timeout"'),
    *(b"null", b"true", b"1e999", b'"1"', b'" "', b'"[]"', b'"{}"', b'"on"', b"\\ud800"),
)
_ACTION_SAMPLES = (
    b'{"query":"x","count":"7","offset":"","timeout":"9"}',
    b'{"messages":"[{\\"role\\":\\"user\\",\\"content\\":\\"Hi\\"}]","temperature":"0.5"}',
    b'{"prompt":"x","n":"1","size":"","model":"gpt-image-1","connection":""}',
    b'{"input":["a","b"],"model":" text-embedding-3-small "}',
)
TARGETS = {
    target.name: target
    for target in (
        Target("events", streams.check_events, _EVENTS, ("*/*.sse",), ordered=True, bytes_max=512),
        Target(
            "tap",
            streams.check_tap,
            _EVENTS + _CHUNKS,
            ("*/*.sse",),
            ordered=True,
            bytes_max=768,
        ),
        Target("tail", streams.check_tail, (b"a", b"\0"), samples=(b"abc", b""), ordered=True),
        Target("answer", streams.check_answer, _CHUNKS, ("*/*.json",), _CHUNKS, ordered=True),
        Target(
            "json",
            requests.check_json,
            _JSON,
            ("*/*.json",),
            (b'{"model":"m","stream":true,"vmx":{"a":1},"stream_options":{"x":[]}}',),
        ),
        Target("envelope", envelopes.check_envelope, _ENVELOPE, samples=(_ENVELOPE_SAMPLE,)),
        Target("decoration", envelopes.check_decoration, _CHUNKS, ("*/*.json",), _CHUNKS),
        Target("signature", requests.check_signature, _SIGNATURE, samples=(_SIGNATURE_SAMPLE,)),
        Target(
            "converted-request",
            conversions.check_request,
            _FIELDS,
            samples=tuple(bytes([number]) + each for number, each in enumerate(_REQUESTS)),
        ),
        Target(
            "converted-answer",
            conversions.check_answer,
            (*_FIELDS, *_CHUNKS),
            ("responses/*.json", "chat/*.json"),
            ordered=True,
        ),
        Target(
            "converted-stream",
            conversions.check_stream,
            _ITEMS,
            samples=(b"".join(_ITEMS[:8]), b"".join(_ITEMS[8:])),
            ordered=True,
            bytes_max=2048,
        ),
        Target("form", requests.check_form, _FORM, samples=(_FORM_SAMPLE,)),
        Target(
            "token",
            requests.check_token,
            (b"hg_", b"live", b"admin", b"_", b"0", b"hg_live_", b"hg_admin_"),
            samples=(b"hg_live_0123456789AB_" + b"a" * 49,),
        ),
        Target("picture", media.check_picture, _PICTURES, samples=_PICTURE_SAMPLES),
        Target("document", media.check_document, _DOCUMENTS, samples=(b"".join(_DOCUMENTS),)),
        Target(
            "content-url", media.check_address, _CONTENT_URLS, samples=(b"https://a.example/b",)
        ),
        Target("messages", media.check_messages, _MESSAGES, samples=_MESSAGES_SAMPLES),
        Target("advice", answers.check_advice, _ADVICE, samples=(b"a:1\nab:2", b"6m0s")),
        Target("refusal", answers.check_error_response, _CHUNKS, samples=_CHUNKS, ordered=True),
        Target("models", answers.check_models, _MODELS, samples=_MODELS_SAMPLES),
        Target("base-url", vault.check_base_url, _URL, samples=(b"https://api.openai.com/v1",)),
        Target("box", vault.check_box, (b"\x01", b"\0"), samples=(b"\x01",), ordered=True),
        Target(
            "edge",
            edge.check_edge,
            _HTTP,
            samples=_HTTP_SAMPLES,
            ordered=True,
            bytes_max=512,
        ),
        Target("address", network.check_address, _ADDRESSES, samples=_ADDRESSES),
        Target("host", network.check_host, _HOSTS, samples=_HOSTS),
        Target("served-name", network.check_served_name, _HOSTS, samples=_HOSTS),
        Target("redirect", network.check_redirect, _REDIRECTS, samples=_REDIRECT_SAMPLES),
        Target("forwarded", network.check_forwarded, _FORWARDED, samples=_FORWARDED),
        Target(
            "decoding",
            network.check_decoding,
            _CODED,
            samples=_CODED_SAMPLES,
            ordered=True,
            bytes_max=512,
        ),
        Target("tool-definition", tools.check_tool_definition, _TOOLS, samples=_TOOLS_SAMPLES),
        Target(
            "action-input",
            actions.check_input,
            (*_ACTION_WORDS, b'"', b"{", b"}", b"[", b"]", b":", b","),
            samples=_ACTION_SAMPLES,
            bytes_max=1024,
        ),
        Target("expression", rules.check_expression, _RULES, samples=_RULES_SAMPLES, bytes_max=256),
        Target(
            "condition",
            rules.check_condition,
            (*_RULES, b"\0"),
            samples=tuple(b"\1\2\0" + each + b"\0" + each for each in _RULES_SAMPLES),
            bytes_max=256,
        ),
        Target(
            "master-key", vault.check_master_key, (b"=", b"-", b"_", b"0f"), samples=(b"0" * 64,)
        ),
    )
}
