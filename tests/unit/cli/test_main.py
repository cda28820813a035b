"""The command line: grammar, errors, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from nexus import cli


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nexus.cli", *words], capture_output=True, text=True, check=False
    )


def test_no_arguments_show_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"nexus {cli.__version__}\n"


@pytest.mark.parametrize(
    "words", [["doctr"], ["bench", "cor"], ["doctor", "--jsn"], ["completion"]]
)
def test_usage_errors_exit_2_with_code_and_hint(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error[NX-CLI-001]: ")
    assert "\n\nhint: " in captured.err


def test_a_typo_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctr"]) == 2
    assert "did you mean `doctor`?" in capsys.readouterr().err


def test_errors_are_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "--json", "no-such-word"]) == 1
    record = json.loads(capsys.readouterr().err)
    assert record["schema"] == 1
    assert record["type"] == "error"
    assert record["code"] == "NX-USE-006"


def test_a_bug_exits_70_with_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    from nexus.cli import glossary

    def broken(*_: object) -> int:
        raise RuntimeError("boom")

    monkeypatch.setattr(glossary, "run", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.main(["help"]) == 70
    error = capsys.readouterr().err
    assert "error[NX-BUG-001]: a bug in nexus: RuntimeError: boom" in error
    (report,) = tmp_path.iterdir()
    assert str(report) in error
    assert "Traceback" in report.read_text()


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    node = (["boot"], ["status"], ["fiber", "list"], ["fiber", "stop"], ["cap", "grant"])
    more = (["stl", "watch"], ["beb", "show"], ["verify"], ["top"])
    own = (["doctor"], ["selftest"], ["bench", "core"], ["completion"], ["help"])
    for words in (*own, *node, *more):
        assert cli.main([*words, "--help"]) == 0
        text = capsys.readouterr().out
        assert "examples:\n  " in text
        assert len(text.splitlines()) <= 30


def test_the_grammar_of_one_command_is_that_of_the_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def commands(parser: Any) -> Iterator[Any]:
        groups = [one for one in parser._actions if hasattr(one.choices, "values")]
        yield parser
        for sub in (sub for group in groups for sub in group.choices.values()):
            yield from commands(sub)

    found = list(commands(cli.make_parser()))
    for parser in found:
        assert cli.main([*parser.prog.split()[1:], "--help"]) == 0
        assert capsys.readouterr().out == parser.format_help()
    assert len(found) > 30


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m nexus.cli help | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True)
    assert done.returncode == 0
    assert done.stderr == b""


def test_doctor_reports_every_facility_as_json() -> None:
    done = run("doctor", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    record = json.loads(done.stdout)
    assert record["schema"] == 1
    names = [item["name"] for item in record["items"]]
    wanted = {
        "landlock", "seccomp", "user-namespaces", "cgroups", "perf", "xdp", "af-packet", "uio",
        "dev-mem", "huge-pages", "watchdog", "edac", "schedulers", "kvm",
    }  # fmt: skip
    assert wanted <= set(names)
    assert len(names) == len(set(names))
    for item in record["items"]:
        assert item["state"] in ("ok", "limited", "absent")
        assert item["detail"]
        assert bool(item["cost"] and item["remedy"]) == (item["state"] != "ok")
    assert sum(record["counts"].values()) == len(names)


def test_doctor_for_people_names_every_gap(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for line in text.splitlines():
        if line.startswith(("limited", "absent")):
            assert f"  {line.split()[1]}: " in text


def test_the_glossary_explains_and_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "RING"]) == 0
    assert "shared-memory queue" in capsys.readouterr().out
    assert cli.main(["help", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    words = [item["word"] for item in items]
    assert len(words) > 30
    assert words == sorted(words, key=str.lower), "the glossary is in order"
    assert all(item["plain"] and item["meaning"].endswith(".") for item in items)
