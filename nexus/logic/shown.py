"""From paths that were touched to the rules of unveil: the least rights, on the fewest paths.

What is shown anyway is left out. Entries that the program makes, removes or renames belong to
their folder, as a rule needs its path at the start. Many paths of one folder with the same rights
become the folder. No rule narrows one above it, as few layers can.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from nexus.logic.confine import shown_anyway
from nexus.logic.unveil import DEVICES, SECRET_PATHS, Unveil, resolve, show
from nexus.seams.files import FileTree

__all__ = ["Rule", "Trace", "learn_rules"]

_MANY = 4  # paths of one folder that become the folder
RULES_MAX = 128  # of the supervisor's mounts, those of the system take some
# What a fiber has of its own.
_OWN_DEVICES = tuple(f"/dev/{n}" for n in (*DEVICES, "fd", "stdin", "stdout", "stderr", "ptmx"))
_OWN_TREES = ("/proc", "/dev/pts")
_PRIVATE = ("/tmp", "/dev/shm")  # noqa: S108 - the fiber's, not ours
_SECRETS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".config/gcloud", ".config/gh", ".config/google-chrome",
    ".docker/config.json", ".git-credentials", ".kube", ".local/share/keyrings", ".mozilla",
    ".netrc", ".npmrc", ".password-store", ".pgpass", ".pypirc", ".vault-token",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of unveil, and what a reader should know about it; empty for nothing."""

    unveil: Unveil
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """The paths of a lesson, see `nexus.logic.learn.Lesson`."""

    touched: Mapping[str, Collection[str]]
    directories: Collection[str]
    moved: Collection[str]
    used: Mapping[str, str]


def _ordered(rights: Iterable[str]) -> str:
    held = set(rights)
    return "".join(right for right in "rwxc" if right in held)


def _parents(path: str) -> Iterable[str]:
    """The folders above a path, the nearest first."""
    while path != "/":
        path = posixpath.dirname(path)
        yield path


def _within(path: str, trees: Iterable[str]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)


def _held(path: str, rules: Mapping[str, str]) -> str | None:
    """The rights of the most specific rule for a path; None where none shows it."""
    return next((rules[at] for at in (path, *_parents(path)) if at in rules), None)


class _Learner:
    def __init__(self, trace: Trace, program: str, files: FileTree, home: str) -> None:
        self.trace, self.files = trace, files
        anyway = show(shown_anyway(program), files)
        self.anyway, self.links_anyway = anyway.paths, set(anyway.links)
        self.anyway.update(dict.fromkeys(SECRET_PATHS, ""))
        self.secrets = [*SECRET_PATHS, *(posixpath.join(home, one) for one in _SECRETS)]
        self.never = {home, posixpath.dirname(home)}  # folders that nothing is merged into
        self.rights: dict[str, set[str]] = {}

    def gather(self) -> None:
        """Rights by the path that a rule can name, without what is shown anyway."""
        for path, rights in self.trace.touched.items():
            top = next((p for p in (*list(_parents(path))[::-1], path)
                        if p in self.trace.moved), None)  # fmt: skip
            if top is not None and _within(top, _PRIVATE) and self.files.kind(top) is None:
                continue  # its own folder for such files serves as well
            place = path if top is None else posixpath.dirname(top)
            if place in _OWN_DEVICES or _within(place, _OWN_TREES) or place == "/dev":
                continue
            asked = set(rights)
            if place == path and not rights and path not in self.trace.directories:
                asked = {"r"}  # to ask about a file takes the file
            held = _held(place, self.anyway)
            if held is None or asked - set(held):
                self.rights.setdefault(place, set()).update(asked)
        for private in _PRIVATE:
            if self.rights.get(private) == set():
                del self.rights[private]

    def merge(self) -> None:
        """Many paths of one folder become the folder, from the deepest on."""
        few = False
        while True:
            groups: dict[tuple[str, str], list[str]] = {}
            for path, rights in self.rights.items():
                folder = posixpath.dirname(path)
                if rights and self._may_hold(folder) and not _within(path, self.secrets):
                    groups.setdefault((folder, _ordered(rights)), []).append(path)
            least = 2 if few else _MANY
            ready = [key for key, paths in groups.items() if len(paths) >= least]
            if not ready:
                if few or len(self.rights) <= RULES_MAX:
                    return
                few = True
                continue
            folder, rights_text = max(ready, key=lambda key: (key[0].count("/"), key))
            for path in groups[folder, rights_text]:
                del self.rights[path]
            self.rights.setdefault(folder, set()).update(rights_text)

    def _may_hold(self, folder: str) -> bool:
        return folder.count("/") >= 2 and folder not in self.never

    def widen(self) -> dict[str, str]:
        """The rules from above on, none narrower than what shows it, none that adds nothing."""
        rules: dict[str, str] = {}
        for path in sorted(self.rights):
            rights = self.rights[path]
            above = _held(path, {**self.anyway, **rules})
            if above is None and _within(path, _PRIVATE) and rights:
                rights = rights | {"r"} | ({"w", "c"} if rights & {"w", "c"} else set())
            if above is not None:
                if rights <= set(above) and path not in SECRET_PATHS:
                    continue
                rights = rights | set(above)
            rules[path] = _ordered(rights)
        for path in [path for path, rights in rules.items() if not rights]:
            # It is on the way to what is shown.
            others = [*rules, *self.anyway]
            if any(one != path and one.startswith(path.rstrip("/") + "/") for one in others):
                del rules[path]
        return rules

    def links(self, rules: dict[str, str]) -> dict[str, str]:
        """Rules for names whose links no rule shows."""
        found: dict[str, str] = {}
        known = set(self.links_anyway)
        shown = {**self.anyway, **rules}
        for used in sorted(self.trace.used):
            met: dict[str, str] = {}
            place = resolve(self.files, used, met)
            loose = {link for link in met if _held(link, shown) is None and not _within(
                link, ("/proc", "/dev"))} - known  # fmt: skip
            rights = None if place is None else _held(place, shown)
            if loose and rights is not None:
                found[used] = rights
                known |= loose
        return found

    def remarks(self, rules: dict[str, str]) -> list[Rule]:
        """The rules with a warning at each secret; those below a shown folder are hidden."""
        named: list[Rule] = []
        for path, rights in sorted(rules.items()):
            remark = ""
            if rights and _within(path, self.secrets):
                remark = "a secret: does the program need it?"
            elif path == "/" and rights:
                remark = "this shows everything"
            named.append(Rule(Unveil(path, rights), remark))
        for secret in self.secrets:
            if _held(secret, rules) and secret not in rules and self.files.kind(secret):
                named.append(Rule(Unveil(secret, ""), "a secret, not used: it stays hidden"))
        return named


def learn_rules(trace: Trace, *, program: str, files: FileTree, home: str) -> list[Rule]:
    """The least rules that show what was touched.

    Args:
        trace: what was touched.
        program: the image that runs, whose own folder is shown anyway.
        files: the tree as it is now.
        home: of the user, where secrets lie.
    """
    learner = _Learner(trace, program, files, home)
    learner.gather()
    learner.merge()
    rules = learner.widen()
    rules.update(learner.links(rules))
    return learner.remarks(rules)
