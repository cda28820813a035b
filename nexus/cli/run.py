"""`nexus run`: a program as a confined, supervised fiber; the process becomes the supervisor."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nexus.cli.output import Output
from nexus.errors import ManifestError
from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import (
    Confined,
    FiberSpec,
    HostLayers,
    confine,
    held_limits,
    policy_record,
)
from nexus.logic.manifest import (
    Draft,
    Program,
    complete,
    merge,
    parse_limit,
    parse_manifest,
)
from nexus.logic.pledge import LOADER_PROMISES, parse_promises
from nexus.logic.unveil import Unveil
from nexus.membrane.assembly import find_image
from nexus.physics.files import HostFiles
from nexus.physics.programs import is_dynamic
from nexus.physics.supervisor import execute_plan, host_facts, seal_image

__all__ = ["run"]


def _said(arguments: argparse.Namespace, directory: str) -> Draft:
    """The draft of the command line."""
    words = list(arguments.program)
    if words[:1] == ["--"]:
        words.pop(0)
    return Draft(
        name=arguments.name,
        program=tuple(words),
        promises=None if arguments.pledge is None else parse_promises(arguments.pledge),
        unveil=tuple(Unveil.parse(word, directory) for word in arguments.unveil),
        bare=arguments.bare or None,
        disposition=arguments.refused,
        tier=arguments.tier,
        limits=dict(parse_limit(word) for word in arguments.limit),
        restart=arguments.restart,
        survivability=arguments.survivability,
        session=arguments.session or None,
        seal=arguments.seal or None,
        waived=frozenset(word.replace("-", " ") for word in arguments.waive),
    )


def _read_manifest(path: Path, name: str | None) -> Draft:
    """The fiber of a file, by its name where there are several."""
    try:
        drafts = parse_manifest(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8: {error.reason}") from None
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from None
    chosen = [draft for draft in drafts if name in (None, draft.name)]
    if len(chosen) != 1:
        names = ", ".join(str(draft.name) for draft in drafts) or "none"
        raise ManifestError(f"{path} has the fibers: {names}", hint="choose one with --name")
    return chosen[0]


def _explain(output: Output, spec: FiberSpec, confined: Confined) -> None:
    if output.json:
        output.document("policy", policy_record(spec, confined))
        return
    output.line(f"program   {spec.program}")
    output.line(f"promises  {' '.join(sorted(spec.promises))}")
    if is_dynamic(spec.program):
        output.line(f"          ({' and '.join(sorted(LOADER_PROMISES))} serve its loader, too)")
    for rule in spec.unveil:
        output.line(f"shown     {rule.path} {rule.rights or 'hidden'}")
    for limit in held_limits(spec):
        output.line(f"limited   {limit.name} {limit.value} by {limit.by}, {limit.of}")
    output.table([(layer.state, layer.name, layer.why) for layer in confined.layers])
    for path in confined.missing:
        output.line(f"missing   {path}")


def _learn(
    arguments: argparse.Namespace, output: Output, draft: Draft, program: Program
) -> int:  # fmt: skip
    from nexus.cli.learn import write_lesson

    if arguments.manifest is not None or arguments.explain:
        raise ManifestError("--learn writes a manifest and takes none, nor --explain")
    return write_lesson(
        program,
        draft.program,
        environment=dict(os.environ),
        name=draft.name,
        output=output,
        target=arguments.output,
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Become the supervisor of the program; returns only for --explain, --learn and --json."""
    directory = str(Path.cwd())
    draft = _said(arguments, directory)
    if arguments.manifest is not None:
        draft = merge(_read_manifest(Path(arguments.manifest), arguments.name), draft)
    if not draft.program:
        raise ManifestError("no program is given", hint="nexus run [OPTIONS] -- PROGRAM")
    program = find_image(draft.program, draft.directory or directory)
    if arguments.learn:
        return _learn(arguments, output, draft, program)
    if arguments.output is not None:
        raise ManifestError("--output is for what --learn writes", hint="give --learn, too")
    spec = complete(draft, program, environment=dict(os.environ), directory=directory)
    host = HostLayers(**host_facts())
    confined = confine(spec, host, HostFiles())
    if arguments.explain:
        _explain(output, spec, confined)
        return 0
    for path in confined.missing:
        raise ManifestError(f"unveil of {path}: nothing is there", hint="make it first")
    image, digest = -1, None
    if draft.seal:
        image, digest = seal_image(spec.program)
    if output.json:
        from nexus.cli.run_told import run_told

        policy = policy_record(spec, confined)
        return run_told(spec.name, confined.manifest, (image, digest), policy, output)
    if draft.seal:
        os.set_inheritable(image, True)
    execute_plan(encode_plan(confined.manifest, image=image, digest=digest))
