"""A node's directory: made whole, private, refused when foreign, taken by one boot at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexus.errors import NodeBusyError, NodeError, NodeOwnerError
from nexus.logic.node import parse_node
from nexus.membrane.default import default_node
from nexus.membrane.directory import NodeDirectory, find_node
from nexus.physics.ledger import Ed25519Signer


def modes(path: Path) -> dict[str, int]:
    return {one.name: one.stat().st_mode & 0o777 for one in path.rglob("*")}


def test_everything_that_is_missing_is_made_and_private(tmp_path: Path) -> None:
    node = NodeDirectory(tmp_path / "deep" / "node")
    assert node.prepare() == ["the directory", "node.kdl", "identity", "beb"]
    assert node.path.stat().st_mode & 0o777 == 0o700
    assert all(mode & 0o077 == 0 for mode in modes(node.path).values())
    assert node.beb.stat().st_size == 65_536
    assert Ed25519Signer(node.key.read_bytes()).public == node.public_key.read_bytes()


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    node = NodeDirectory(tmp_path)
    node.prepare()
    node.node_file.write_text('fiber "a" { program "x" }')
    before = {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}
    tmp_path.chmod(0o755)
    assert node.prepare() == []
    assert {one: one.read_bytes() for one in before} == before
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.root
def test_a_directory_of_another_user_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.mkdir(mode=0o755)
    os.chown(path, 65534, 65534)
    with pytest.raises(NodeOwnerError, match="belongs to user 65534") as refused:
        NodeDirectory(path).prepare()
    assert refused.value.hint
    assert list(path.iterdir()) == []
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("")
    with pytest.raises(NodeError, match="is no directory"):
        NodeDirectory(tmp_path / "node").prepare()
    with pytest.raises(NodeError, match="Not a directory"):
        NodeDirectory(tmp_path / "node" / "below").prepare()


def test_only_one_takes_the_node(tmp_path: Path) -> None:
    node = NodeDirectory(tmp_path)
    node.prepare()
    lock = node.take()
    with pytest.raises(NodeBusyError, match="is up already"):
        node.take()
    os.close(lock)
    os.close(node.take())


def test_where_the_node_is() -> None:
    assert find_node("/a", {"NEXUS_NODE": "/b"}).path == Path("/a")
    assert find_node(None, {"NEXUS_NODE": "/b", "XDG_DATA_HOME": "/c"}).path == Path("/b")
    assert find_node(None, {"XDG_DATA_HOME": "/c"}).path == Path("/c/nexus")
    assert find_node(None, {"XDG_DATA_HOME": "c"}).path == Path.home() / ".local/share/nexus"
    assert find_node("a", {}).path == Path.cwd() / "a"


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus.membrane.directory.LOG_BYTES_MAX", 10)
    node = NodeDirectory(tmp_path)
    node.prepare()
    for _ in range(3):
        descriptor = node.open_log("a")
        os.write(descriptor, b"twenty bytes of log.")
        os.close(descriptor)
    assert node.log("a").stat().st_size == 20
    assert (tmp_path / "log" / "a.log.old").stat().st_size == 20


def test_the_default_node_is_sound() -> None:
    node = parse_node(default_node(), "/")
    assert [fiber.name for fiber in node.fibers] == ["pulse", "digest", "lazarus"]
    assert [fiber.checkpoint for fiber in node.fibers] == [False, True, True]
    assert all(fiber.standby for fiber in node.fibers)
