from __future__ import annotations

import pytest

from headgate.llm import form
from headgate.llm.request import InvalidTypeError

TYPE = "multipart/form-data; boundary=b0"


def part(name: str, value: bytes = b"m", more: str = "", headers: str = "") -> bytes:
    head = f'content-disposition: form-data; name="{name}"{more}\r\n{headers}\r\n'
    return b"--b0\r\n" + head.encode() + value + b"\r\n"


FILE = part("file", b"\x00\r\n--b\r\n\xff" * 9, '; filename="a.mp3"', "Content-Type: audio/x\r\n")
END = b"--b0--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        part("model") + FILE + END,
        FILE + part("model") + END,
        b"preamble\r\n" + FILE + part("model") + END + b"epilogue",
        part("model").replace(b"--b0\r\n", b"--b0 \t\r\n") + END,
        part("model", headers="Content-Type: text/plain; charset=utf-8\r\n") + END,
        part("model").replace(b'"model"', b"model").replace(b"content-d", b"CONTENT-D") + END,
    ],
)
def test_model_is_found_wherever_it_stands(body: bytes) -> None:
    assert form.read_model(body, TYPE) == "m"


@pytest.mark.parametrize(
    "content_type",
    ['multipart/form-data; boundary="b0"', "Multipart/Form-Data;charset=utf-8; Boundary=b0"],
)
def test_boundary_may_be_quoted(content_type: str) -> None:
    assert form.read_model(part("model") + END, content_type) == "m"


def test_form_needs_no_model() -> None:
    assert form.read_model(part("stream", b"True") + part("n", b"4") + END, TYPE) is None


def test_empty_value_and_other_fields_are_fine() -> None:
    body = part("prompt", b"x" * 9999) + part("image[]") + part("image[]") + part("model", b"")
    assert form.read_model(body + END, TYPE) == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b0",
        END,
        part("model"),
        part("model") + b"--b0",
        part("model") + b"--b0x\r\n",
        part("model") + part("model") + END,
        part("model", more='; filename="x"') + END,
        part("model", more="; name*=utf-8''n") + END,
        part("model", more='; name="n"') + END,
        part("model", more="; broken") + END,
        part("mo\\del") + END,
        part("model", headers="Content-Transfer-Encoding: base64\r\n") + END,
        part("model", headers="broken\r\n") + END,
        part("model", headers=" folded: x\r\n") + END,
        part("model", headers="a: b\nc: d\r\n") + END,
        part("model", headers="x: " + "y" * 9000 + "\r\n") + END,
        part("model", b"\xff") + END,
        part("model", b"m" * 2000) + END,
        part("model").replace(b"\r\n", b"\n") + END,
        b"x\n" + part("model") + END,
        part("other", b"x\n--b0\r\nmore") + END,
        b"--b0 x\r\n" + part("model")[6:] + part("model") + END,
        part("model").replace(b"form-data", b"attachment") + END,
        part("model").replace(b'; name="model"', b"") + END,
        b"--b0\r\ncontent-disposition: form-data; name=model\r\n" + END,
        part("x") * 300 + END,
    ],
)
def test_form_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(form.InvalidFormError):
        form.read_model(body, TYPE)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=",
     "multipart/form-data; boundary=" + "b" * 71, 'multipart/form-data; boundary="b0',
     "multipart/form-data; boundary=b0; boundary=b1", 'multipart/form-data; boundary="b 0 "'],
)  # fmt: skip
def test_content_type_without_a_valid_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(form.InvalidFormError):
        form.read_model(part("model") + END, content_type)


@pytest.mark.parametrize(("name", "value"), [("stream", b"maybe"), ("n", b"-1"), ("n", b"2.5")])
def test_field_of_the_wrong_type_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(InvalidTypeError) as caught:
        form.read_model(part(name, value) + END, TYPE)
    assert caught.value.param == name
