"""Directories of a volume against a dictionary that says the same."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.errors import AbsentError, NoVolumeError
from nexus.fs import tree
from nexus.physics.store import StoreSettings, create_store
from nexus.physics.zstd import zstd_functions
from nexus.seams.store import Entry, Form

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)

NAMES = [b"a", b"b", b"ab", b"\xff", b"n" * 255]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4)
steps = st.lists(st.tuples(paths, st.integers(0, 3)), max_size=12)


@pytest.fixture
def store(tmp_path: Path):
    store = create_store(tmp_path / "s", StoreSettings(bytes(16)))
    yield store
    store.close()


def link(text: bytes) -> Entry:
    return Entry(b"", stat.S_IFLNK | 0o777, 1, 2, 3, 4, len(text), Form.TEXT, None, text, b"")


def named(root: dict, names: list[bytes]) -> dict | bytes | None:
    for name in names:
        if not isinstance(root, dict) or name not in root:
            return None
        root = root[name]
    return root


def put(root: dict, names: list[bytes], text: bytes | None) -> None:
    """What `graft` does, or its refusal."""
    for name in names[:-1]:
        if name not in root and text is None:
            raise NoVolumeError
        below = root.get(name, {})
        if not isinstance(below, dict):
            raise NotADirectoryError
        if text is not None:
            # Nothing is made unless all of it can be.
            put_in = dict(below)
            put(put_in, names[1:], text)
            root[name] = put_in
        else:
            put(below, names[1:], None)
        return
    if text is None:
        if names[-1] not in root:
            raise NoVolumeError
        del root[names[-1]]
    else:
        root[names[-1]] = text


def as_dict(store, entry: Entry) -> dict | bytes:
    if not stat.S_ISDIR(entry.mode):
        assert entry.text is not None
        return entry.text
    rows = list(tree.children(store, entry))
    assert [row.name for row in rows] == sorted(row.name for row in rows)
    return {row.name: as_dict(store, row) for row in rows}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps)
def test_a_tree_is_what_a_dictionary_says(store, work) -> None:
    root, model = tree.empty_root(0, 0), {}
    for names, what in work:
        text = None if what == 0 else bytes([48 + what])
        refusal = None
        try:
            put(model, list(names), text)
        except (NoVolumeError, NotADirectoryError) as error:
            refusal = type(error)
        if refusal is None:
            root = tree.graft(store, root, names, None if text is None else link(text))
            store.flush()
        else:
            with pytest.raises(refusal):
                tree.graft(store, root, names, None if text is None else link(text))
        found = tree.lookup(store, root, names)
        wanted = named(model, list(names))
        assert (found is None) == (wanted is None)
        if found is not None:
            assert as_dict(store, found) == wanted
    assert as_dict(store, root) == model
    walked = {path for path, _ in tree.walk(store, root)}
    assert len(walked) == sum(1 for _ in tree.walk(store, root))


def test_a_directory_of_many_leaves_is_looked_up_by_its_index(store) -> None:
    rows = {b"%05d" % i: b"t%d" % i for i in range(6000)}
    root = tree.empty_root(0, 0)
    entries = [link(text)._replace(name=name) for name, text in sorted(rows.items())]
    root = tree._make_directory(store, root, entries)
    store.flush()
    assert root.form == Form.INDEX
    for name in (b"00000", b"02047", b"02048", b"02049", b"05999"):
        found = tree.lookup(store, root, [name])
        assert found is not None
        assert found.text == rows[name]
    for name in (b"", b"00000x", b"06000", b"zzz"):
        assert tree.lookup(store, root, [name]) is None
    assert len(list(tree.children(store, root))) == 6000
    less = tree.graft(store, root, [b"03000"], None)
    store.flush()
    assert tree.lookup(store, less, [b"03000"]) is None
    assert tree.lookup(store, root, [b"03000"]) is not None


@pytest.mark.parametrize("path", ["..", "a/../b", "n" * 256, "a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        tree.split(path)


def test_a_path_is_its_names() -> None:
    assert tree.split("/a//./b/") == [b"a", b"b"]
    assert tree.split("/") == tree.split("") == tree.split(".") == []
    assert tree.split("\udcff") == [b"\xff"]


def test_a_root_is_what_was_put(store) -> None:
    root = tree.graft(store, tree.empty_root(7, 8), [b"a"], link(b"x"))
    identity = tree.put_root(store, root)
    store.flush()
    assert tree.open_root(store, identity) == root
