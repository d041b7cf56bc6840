from __future__ import annotations

import pytest

from headgate.kit.path_tree import PathTree

TREE: PathTree[str] = PathTree()
for pattern in ("/a", "/a/{id}", "/a/b", "/a/{id}/c", "/a/b/{rest}", "/{rest}"):
    TREE.setdefault(pattern, pattern)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/a", "/a"),
        ("/a/b", "/a/b"),
        ("/a/x", "/a/{id}"),
        ("/a/x/c", "/a/{id}/c"),
        ("/a/b/c", "/a/b/{rest}"),
        ("/a/b/c/d", "/a/b/{rest}"),
        ("/a/x/d", "/{rest}"),
        ("/a/", "/{rest}"),
        ("a", None),
    ],
)
def test_find_prefers_literals_to_parameters_and_these_to_the_rest(
    path: str, pattern: str | None
) -> None:
    assert TREE.find(path.split("/")) == pattern


def test_setdefault_keeps_the_first_value_of_a_pattern() -> None:
    tree: PathTree[int] = PathTree()
    assert tree.setdefault("/a/{id}", 1) == 1
    assert tree.setdefault("/a/{name}", 2) == 1
    assert tree.setdefault("/{rest}", 3) == 3
    assert tree.setdefault("/{rest}", 4) == 3
