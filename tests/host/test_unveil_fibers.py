"""Unveil on the running kernel: what a fiber sees, and what it may do there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from nexus.errors import ManifestError
from nexus.logic.unveil import Unveil

pytestmark = pytest.mark.slow

NO_MOUNTS = frozenset({"mount namespace"})


@pytest.fixture
def tree(fibers, request):
    """A folder with a file, a program, a secret below it, and links."""
    folder = fibers.folder / f"tree-{abs(hash(request.node.name)) % 10**9}"
    (folder / "sub" / "secret").mkdir(parents=True)
    (folder / "sub" / "file").write_text("file\n")
    (folder / "sub" / "secret" / "key").write_text("key\n")
    (folder / "sub" / "tool").write_text("#!/bin/sh\necho tool\n")
    (folder / "sub" / "tool").chmod(0o755)
    (folder / "link").symlink_to("sub/secret")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, fibers.user, fibers.user, follow_symlinks=False)
    yield folder
    shutil.rmtree(folder)


def shown(fibers, script: str, *rules: tuple[object, str], **changes: object) -> str:
    """What a script prints, its errors included, with its exit status at the end."""
    unveil = tuple(Unveil(str(path), rights) for path, rights in rules)
    done = fibers.shell(f"exec 2>&1; {script}", unveil=unveil, **changes)
    return done.stdout.decode() + str(done.returncode) + done.stderr.decode()


def test_what_is_not_shown_is_absent(fibers, tree: Path) -> None:
    got = shown(fibers, f"ls -d {tree} /root /home /sys /run /var", waived=frozenset())
    assert got.count("No such file") == 6


def test_the_most_specific_rule_wins(fibers, tree: Path) -> None:
    rules = [(tree, "r"), (tree / "sub", "rwc"), (tree / "sub" / "secret", "r")]
    script = (
        f"cd {tree}; echo 1 > new; echo 2 > sub/file; echo 3 > sub/secret/key;"
        "cat sub/file sub/secret/key; rm sub/file; sub/tool"
    )
    got = shown(fibers, script, *rules)
    assert got.count("Read-only") == 2, got
    assert "2\nkey\n" in got
    assert not (tree / "sub" / "file").exists()
    assert "tool: Permission denied" in got


def test_no_right_hides_a_folder_and_a_file(fibers, tree: Path) -> None:
    rules = [(tree, "rwxc"), (tree / "sub" / "secret", ""), (tree / "sub" / "tool", "")]
    got = shown(
        fibers, f"cd {tree}/sub; cat secret/key; ls secret; cat tool; echo . > tool; ./tool", *rules
    )
    assert "key: No such file" in got
    assert got.count("tool: Permission denied") == 3, got
    assert (tree / "sub" / "secret" / "key").read_text() == "key\n"


def test_hidden_things_come_not_back_by_a_link_or_dots(fibers, tree: Path) -> None:
    rules = [(tree, "rwxc"), (tree / "sub" / "secret", "")]
    got = shown(fibers, f"cat {tree}/link/key; cd {tree}/sub; cat ../sub/secret/key", *rules)
    assert got.count("No such file") == 2
    got = shown(fibers, "cat inner/../secret/key", (tree / "sub" / ".." / "sub" / "file", "r"))
    assert "No such file" in got


@pytest.mark.parametrize("rights", ["r", "rx", "rw", "rwx", "rc", "rwxc"])
@pytest.mark.parametrize("waived", ["", "mount namespace", "landlock files"])
def test_rights_are_held_one_by_one(fibers, tree: Path, rights: str, waived: str) -> None:
    script = f"cd {tree}/sub; cat file; ./tool; echo w >> file; mkdir made; rm secret/key"
    got = shown(fibers, script, (tree, rights), waived=frozenset([waived]) - {""})
    # Mounts alone cannot hold writing and creating apart; the record of the layers says so.
    may_change = "w" in rights or ("c" in rights and waived == "landlock files")
    may_make = "c" in rights or ("w" in rights and waived == "landlock files")
    assert got.startswith("file\n"), got
    assert ("tool\n" in got.splitlines(keepends=True)) == ("x" in rights), got
    assert ((tree / "sub" / "file").read_text() == "file\nw\n") == may_change, got
    assert (tree / "sub" / "made").exists() == may_make, got
    assert (tree / "sub" / "secret" / "key").exists() != may_make, got


@pytest.mark.parametrize("rights", ["w", "x", "c", "wx"])
def test_without_r_names_are_listed_but_nothing_is_read(fibers, tree: Path, rights: str) -> None:
    got = shown(fibers, f"cat {tree}/sub/file; ls {tree}/sub", (tree, rights))
    assert got.count("file: Permission denied") == 1, got
    assert "tool\n" in got


def test_what_no_layer_can_narrow_is_refused(fibers, tree: Path) -> None:
    for above, below in (("rwxc", "rw"), ("rwxc", "w"), ("rc", "rw"), ("r", "x"), ("rwc", "c")):
        rules = (Unveil(str(tree), above), Unveil(str(tree / "sub"), below))
        with pytest.raises(ManifestError, match="narrows") as caught:
            fibers.confined("/bin/true", unveil=rules)
        assert caught.value.hint
    with tempfile.TemporaryDirectory(dir="/tmp") as own:
        with pytest.raises(ManifestError, match="narrows /tmp"):
            fibers.confined("/bin/true", unveil=(Unveil(own, "rw"),))
        assert fibers.confined("/bin/true", unveil=(Unveil(own, "r"),))


def test_a_single_file_is_shown_alone(fibers, tree: Path) -> None:
    path = tree / "sub" / "file"
    got = shown(fibers, f"cat {path}; echo x > {path}; ls {tree}/sub; rm {path}", (path, "rw"))
    assert got.startswith("file\nfile\nrm: cannot remove"), got
    assert path.read_text() == "x\n"


def test_links_on_the_way_lead_where_they_led(fibers, tree: Path) -> None:
    got = shown(fibers, f"cat {tree}/link/key; ls -l {tree}", (tree / "link" / "key", "r"))
    assert got.startswith("key\n")
    assert "link -> sub/secret" in got
    # The merged /usr: /bin is a link on many systems, and programs are called through it.
    assert shown(fibers, "/bin/echo here") == "here\n0"


def test_names_that_are_no_text_go_through(fibers, tree: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \x01\n")
    (tree / name).write_text("bytes\n")
    got = shown(fibers, f"cat {tree}/caf*", (tree / name, "r"))
    assert got == "bytes\n0"


def test_a_link_that_leads_to_itself_is_missing(fibers, tree: Path) -> None:
    (tree / "loop").symlink_to("loop")
    rules = (Unveil(str(tree / "loop"), "r"), Unveil(str(tree / "nothing"), "r"))
    assert set(fibers.confined("/bin/true", unveil=rules).missing) == {
        str(tree / "loop"),
        str(tree / "nothing"),
    }


def test_too_many_rules_are_refused_by_number(fibers, tree: Path) -> None:
    for number in range(300):
        (tree / f"f{number}").touch()
    rules = tuple(Unveil(str(tree / f"f{number}"), "r") for number in range(300))
    with pytest.raises(ManifestError, match="256") as caught:
        fibers.confined("/bin/true", unveil=rules)
    assert caught.value.hint
    few = tuple((tree / f"f{number}", "r") for number in range(200))
    assert shown(fibers, f"ls {tree} | wc -l", *few) == "200\n0"


def test_dev_proc_and_tmp_are_of_its_own(fibers) -> None:
    names = "full null random tty urandom zero"
    got = shown(
        fibers,
        "ls /tmp | wc -l; echo x > /tmp/x && cat /tmp/x; echo x > /dev/shm/x; "
        f"cd /dev && ls -d {names} pts shm fd; head -c 4 /dev/zero | od -An -tx1; "
        "ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm; ls /dev/kmsg /dev/mem /dev/kvm /dev/vda",
    )
    lines = got.splitlines()
    assert lines[:2] == ["0", "x"], got
    assert " 00 00 00 00" in lines
    assert "nexus-l0" in lines
    assert got.count("No such file") == 4
    assert int(lines[lines.index(" 00 00 00 00") + 1]) < 8


def test_what_the_kernel_keeps_in_proc_is_not_for_writing(fibers) -> None:
    for waived in (
        frozenset(),
        frozenset({"pid namespace"}),
        frozenset({"landlock files"}),
        NO_MOUNTS,
    ):
        path = "/proc/sys/vm/swappiness"
        got = shown(fibers, f"read v < {path}; echo $v > {path} && echo WROTE", waived=waived)
        assert "WROTE" not in got
        assert "cannot create" in got


def test_bare_shows_nothing_but_the_rules(fibers) -> None:
    rules = (
        Unveil("/bin", "rx"),
        Unveil("/usr", "rx"),
        Unveil("/lib", "rx"),
        Unveil("/lib64", "rx"),
    )
    present = tuple(rule for rule in rules if Path(rule.path).exists())
    done = fibers.shell(
        "ls -d /bin /usr /lib /lib64 /etc /tmp /dev /proc /var", unveil=present, bare=True
    )
    assert set(done.stdout.decode().split()) == {rule.path for rule in present}


def test_without_mounts_paths_are_refused_but_seen(fibers, tree: Path) -> None:
    got = shown(fibers, f"ls -d {tree}; cat {tree}/sub/file; ls {tree}", waived=NO_MOUNTS)
    assert got.startswith(f"{tree}\n"), got
    assert got.count("Permission denied") == 2


def test_without_mounts_narrowing_is_refused(fibers, tree: Path) -> None:
    rules = (Unveil(str(tree), "rw"), Unveil(str(tree / "sub"), "r"))
    with pytest.raises(ManifestError, match="narrows") as caught:
        fibers.confined("/bin/true", unveil=rules, waived=NO_MOUNTS)
    assert caught.value.hint
    wider = (Unveil(str(tree), "r"), Unveil(str(tree / "sub"), "rw"))
    assert fibers.confined("/bin/true", unveil=wider, waived=NO_MOUNTS)


@pytest.mark.parametrize("bad", ["relative", "/a\0b", ""])
def test_a_rule_needs_a_whole_path(bad: str) -> None:
    with pytest.raises(ManifestError):
        Unveil(bad, "r")


@pytest.mark.parametrize(
    ("text", "path", "rights"),
    [
        ("data", "/home/data", "r"),
        ("../x=wr", "/x", "rw"),
        ("/a/./b//c/..=", "/a/b", ""),
        ("a=b=rx", "/home/a=b", "rx"),
        ("/a=cxwr", "/a", "rwxc"),
    ],
)
def test_rules_are_read_from_words(text: str, path: str, rights: str) -> None:
    assert Unveil.parse(text, "/home") == Unveil(path, rights)


@pytest.mark.parametrize("text", ["a=q", "a=rr", "=r", "a=rwxcr"])
def test_words_that_are_no_rule_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Unveil.parse(text, "/home")
    assert caught.value.code == "NX-MAN-001"
