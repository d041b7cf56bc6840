"""Style as a test: lengths, names, banned calls. `python tools/tidy.py` prints what to change.

The limits are those of CONTRIBUTING.md; a rule is changed by a decision record, not here alone.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FILE_LINES_WARN = 400
FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
BLOB_BYTES_MAX = 200_000
BLOB_EXCEPTIONS = {
    "requirements/dev.lock",
    "docs/openapi.json",
    # Swagger UI as npm has it: /docs loads nothing from another host.
    "src/headgate/api/reference_page/swagger-ui-bundle.js",
    "src/headgate/kit/tokenizer_data/o200k_base.xz",
}
SHIPPED = ("src/", "simulator/src/")
NAMES_BANNED = {"utils", "util", "helpers", "common", "manager", "misc", "v2", "core"}
CALLS_BANNED = {
    "print": "structlog, or the console of the command line",
    "eval": "nothing: no expression of a user is ever Python",
    "exec": "nothing: no expression of a user is ever Python",
    "breakpoint": "nothing: it stops the server",
    "time.sleep": "a deadline, an event, or virtual time",
    "datetime.now": "kit.clock",
    "datetime.utcnow": "kit.clock",
    "os.system": "subprocess.run with a list",
    "pickle.loads": "msgspec",
    "random.choice": "secrets, or a draw that is passed in",
    "asyncio.get_event_loop": "asyncio.get_running_loop",
}
NAMES_RETIRED = re.compile(
    r"_?(Ask|Trip|Shown\w*|Deed\w*|\w*Book|Desk|Installation|Reading|KeyRing|Shelf|Stand|Trials?|"
    r"Offer|Entrance|\w*Door|take_up|Flood|Wanted|Vouched|Crowd|Attendan\w+|Recognition|Lane|"
    r"\w*Face|Repetition|Claim|Journey|Cards|Pulse|strictness|Carriage|Opening|Holding|Hearing|"
    r"Upkeep|Opener|Round|Drafts|Surely|read_wishes|restless|deaf|Nowhere)"
)
"""House words that were classes and functions once; CONTRIBUTING.md has the rule."""
SEE_ALONE = re.compile(r"See \S+")
NOT_VERBS = re.compile(
    r"(A|All|Also|An|As|At|By|Every|For|From|How|In|Its|No|Not|Of|One|Only|That|The|Their|There|"
    r"This|Those|To|Too|What|Where|Whether|Which|Who|Whom|Whose|Why|With)"
)
"""First words of a docstring that describe a thing; a docstring says what to do with it."""
DESCRIPTIONS = ("src/headgate/api/schemas/", "src/headgate/api/errors.py")
"""Their docstrings are the descriptions of types in the OpenAPI document, which are nouns."""
COMMENT_BANNED = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)\b")


def list_files() -> list[Path]:
    """Return every file that git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def is_shipped(path: Path) -> bool:
    return path.suffix == ".py" and path.relative_to(ROOT).as_posix().startswith(SHIPPED)


def name_of(call: ast.expr) -> str:
    """Return `time.sleep` for the expression that is called; empty for anything computed."""
    if isinstance(call, ast.Name):
        return call.id
    if isinstance(call, ast.Attribute):
        return f"{name_of(call.value)}.{call.attr}"
    return ""


def check_function(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if lines > FUNCTION_LINES_MAX:
        yield f"`{function.name}` has {lines} lines, at most {FUNCTION_LINES_MAX}: split it"
    arguments = function.args
    own = [a for a in arguments.posonlyargs + arguments.args if a.arg not in ("self", "cls")]
    if len(own) > PARAMETERS_MAX:
        yield f"`{function.name}` takes {len(own)} arguments by place, at most {PARAMETERS_MAX}"
    for node in ast.walk(function):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield f"line {node.lineno}: import inside `{function.name}`: put it on top"


def check_docstrings(tree: ast.Module) -> Iterator[str]:
    if ast.get_docstring(tree) is None:
        yield "no module docstring: say its role in the whole"
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and SEE_ALONE.fullmatch(ast.get_docstring(node) or ""):
            yield f"line {node.lineno}: the docstring of `{node.name}` only says where to look"


def check_first_words(tree: ast.Module) -> Iterator[str]:
    """Refuse docstrings that do not open with a verb; those of errors say what they mean."""
    for node in ast.walk(tree):
        if not isinstance(node, DEFINITIONS) or node.name.endswith("Error"):
            continue
        first = (ast.get_docstring(node) or "").partition(" ")[0].strip(",.:")
        if NOT_VERBS.fullmatch(first):
            yield f"line {node.lineno}: the docstring of `{node.name}` opens with no verb: {first}"


def check_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and NAMES_RETIRED.fullmatch(node.name):
            yield f"line {node.lineno}: `{node.name}` is a retired name: take the field's own word"


def find_doubled_classes(paths: Iterable[Path], root: Path = ROOT) -> Iterator[str]:
    """Yield each class name that two shipped modules define: one name has one meaning."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(root).as_posix())
    for name, found in sorted(places.items()):
        if len(found) > 1:
            yield f"{found[-1]}: class `{name}` is also in {', '.join(found[:-1])}"


def check_file_name(path: Path) -> Iterator[str]:
    if path.stem.strip("_") in NAMES_BANNED:
        yield f"`{path.stem}` says nothing: name the noun"
    if NAMES_RETIRED.fullmatch(path.stem.title().replace("_", "")):
        yield f"`{path.stem}` is a retired name: take the field's own word"


def check_python(path: Path, text: str, *, shipped: bool) -> Iterator[str]:
    tree = ast.parse(text)
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{lines} lines, at most {FILE_LINES_MAX}: split it by its nouns"
    yield from check_file_name(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from check_function(node)
        elif shipped and isinstance(node, ast.Global):
            yield f"line {node.lineno}: `global`: build the object in main.py and hand it in"
        elif shipped and isinstance(node, ast.Call) and name_of(node.func) in CALLS_BANNED:
            name = name_of(node.func)
            yield f"line {node.lineno}: `{name}` is banned: use {CALLS_BANNED[name]}"
    yield from check_names(tree)
    if shipped:
        yield from check_docstrings(tree)
    for number, line in enumerate(text.splitlines(), 1):
        if COMMENT_BANNED.search(line):
            yield f"line {number}: finish it, or file it as an issue"


def check(path: Path) -> Iterator[str]:
    relative = path.relative_to(ROOT).as_posix()
    if path.stat().st_size > BLOB_BYTES_MAX and relative not in BLOB_EXCEPTIONS:
        yield f"larger than {BLOB_BYTES_MAX} bytes"
    if path.suffix == ".py":
        yield from check_python(path, path.read_text(), shipped=is_shipped(path))
        if is_shipped(path) and not relative.startswith(DESCRIPTIONS):
            yield from check_first_words(ast.parse(path.read_text()))


def main() -> int:
    faults = 0
    paths = list_files()
    for path in paths:
        for fault in check(path):
            faults += 1
            print(f"{path.relative_to(ROOT)}: {fault}")
        if path.suffix == ".py" and (lines := path.read_text().count("\n")) > FILE_LINES_WARN:
            print(
                f"{path.relative_to(ROOT)}: {lines} lines, {FILE_LINES_WARN} is the aim (a warning)"
            )
    for fault in find_doubled_classes(path for path in paths if is_shipped(path)):
        faults += 1
        print(fault)
    print(f"tidy: {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
