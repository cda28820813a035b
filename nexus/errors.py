"""The exceptions of Nexus: one tree, each with a stable code, an exit code and a remedy.

Three kinds of outcome are kept apart everywhere. What is *expected* (full, empty, not found)
is a return value. What *goes wrong in operation* (input, a peer, hardware, a denied right) is
an exception from this module. What is a *bug* is an assertion.

Blame is part of the type: `LocalError` is the caller's mistake, `RemoteError` another party's,
`FaultError` that of hardware, the kernel or stored bytes.
"""

from __future__ import annotations

from typing import ClassVar


class NexusError(Exception):
    """Something went wrong in operation.

    Attributes:
        code: stable identifier, never reused for another meaning.
        exit_code: what the `nexus` command exits with, see docs/reference/exit-codes.md.
        hint: the remedy in the imperative, or None.
    """

    code: ClassVar[str] = "NX-GEN-001"
    exit_code: ClassVar[int] = 1

    def __init__(self, *args: object, hint: str | None = None) -> None:
        super().__init__(*args)
        self.hint = hint


class LocalError(NexusError):
    """The caller did something that is not allowed."""

    code = "NX-GEN-002"
    exit_code = 2


class RemoteError(NexusError):
    """A peer broke its side of a protocol."""

    code = "NX-GEN-003"
    exit_code = 30


class FaultError(NexusError):
    """Hardware, the kernel or stored bytes failed."""

    code = "NX-GEN-004"
    exit_code = 40


class ClosedError(LocalError, ValueError):
    """The object was closed, released or revoked before this call."""

    code = "NX-USE-001"


class OutOfRangeError(LocalError, IndexError):
    """An offset, index or length lies outside the object."""

    code = "NX-USE-002"


class MisalignedError(LocalError, ValueError):
    """An address is not a multiple of the access width."""

    code = "NX-USE-003"


class TooLargeError(LocalError, ValueError):
    """A value is larger than a fixed limit of the format."""

    code = "NX-USE-004"


class FullError(LocalError):
    """A fixed table has no free entry left."""

    code = "NX-USE-005"
    exit_code = 1


class EmptyError(LocalError, LookupError):
    """There is nothing to return."""

    code = "NX-USE-006"
    exit_code = 1


class DeadlineError(LocalError, TimeoutError):
    """The bound on time or tries was reached before the condition came true."""

    code = "NX-USE-007"
    exit_code = 1


class StaleError(LocalError, LookupError):
    """A handle of an earlier generation: its object was revoked."""

    code = "NX-CAP-001"
    exit_code = 20


class DeniedError(LocalError, PermissionError):
    """The right is not held."""

    code = "NX-CAP-002"
    exit_code = 20


class RevokedError(DeniedError):
    """The right to a channel's end or to an opened file was taken while it was in use."""

    code = "NX-CAP-003"


class CorruptError(FaultError):
    """Stored or shared bytes contradict themselves."""

    code = "NX-DAT-001"
    exit_code = 13


class AbsentError(FaultError):
    """This host does not have the facility; the message says what it is and how to get it."""

    code = "NX-HST-001"
    exit_code = 40


class MediumError(FaultError):
    """A medium refused to program or to erase: the block ought to be retired."""

    code = "NX-FLS-001"


class UncorrectableError(CorruptError):
    """A medium read more wrong bits than its ECC corrects.

    Attributes:
        data: the bytes as they were read.
        flips: the most bits that were corrected in a step that could be.
    """

    code = "NX-FLS-002"

    def __init__(self, *args: object, data: bytes = b"", flips: int = 0) -> None:
        super().__init__(*args)
        self.data = data
        self.flips = flips


class MediumRuleError(LocalError, ValueError):
    """A client of a medium did what raw flash does not allow; the message says what and where."""

    code = "NX-FLS-003"


class MediumGoneError(FaultError):
    """The medium has no power, was removed or became smaller."""

    code = "NX-FLS-004"


class MediumBusyError(LocalError):
    """Another writer has the medium."""

    code = "NX-FLS-005"
    exit_code = 11


class NoVolumeError(LocalError, FileNotFoundError):
    """Nothing there is a volume, or what is asked for is not in it."""

    code = "NX-FS-001"
    exit_code = 10


class VolumeBusyError(LocalError):
    """Another process writes to the volume."""

    code = "NX-FS-002"
    exit_code = 11


class VolumeCorruptError(CorruptError):
    """A volume is not what it says it is."""

    code = "NX-FS-003"


class VolumeExistsError(LocalError, FileExistsError):
    """There is something where something new was to be made."""

    code = "NX-FS-004"
    exit_code = 1


class VolumeFileError(LocalError, OSError):
    """A file of the host, or one of the volume's own, cannot be read or written."""

    code = "NX-FS-005"
    exit_code = 1


class ProofError(RemoteError, ValueError):
    """A proof of what a tree has does not prove it."""

    code = "NX-FS-006"
    exit_code = 1


class ReplayError(LocalError, AssertionError):
    """An access differs from the next one that a replayed trace expects."""

    code = "NX-MIO-001"


class ManifestError(LocalError, ValueError):
    """A manifest says what it cannot say."""

    code = "NX-MAN-001"


class PledgeError(LocalError, ValueError):
    """A promise that does not exist, or that contradicts another."""

    code = "NX-PLG-001"


class UnenforceableError(FaultError):
    """This host cannot enforce what the policy asks for."""

    code = "NX-POL-001"
    exit_code = 40


class StartError(FaultError, OSError):
    """The supervisor could not start a fiber."""

    code = "NX-RUN-001"
    exit_code = 125


class AbsentProgramError(LocalError, FileNotFoundError):
    """The program to run does not exist or cannot be executed."""

    code = "NX-RUN-002"
    exit_code = 125


class NoFiberError(LocalError, RuntimeError):
    """What only a fiber can do was asked for in a process that is none."""

    code = "NX-FIB-001"


class HandlesError(LocalError, ValueError):
    """NEXUS_FIBER says what it cannot say, or names a descriptor that is not what it says."""

    code = "NX-FIB-002"


class NoHandleError(LocalError, LookupError):
    """The fiber was given nothing of this kind and name."""

    code = "NX-FIB-003"
    exit_code = 20


class RecordError(LocalError, ValueError):
    """A record type cannot be laid out, or a value does not fit into its record."""

    code = "NX-FIB-004"


class PeerRecordError(RemoteError, ValueError):
    """What came out of a channel is no record of the type that was agreed on."""

    code = "NX-FIB-005"


class NodeError(ManifestError):
    """A node's description says what it cannot say."""

    code = "NX-NOD-001"


class NodeDownError(RemoteError, ConnectionError):
    """No supervisor answers for this node."""

    code = "NX-NOD-002"


class NodeBusyError(LocalError):
    """The node is up already."""

    code = "NX-NOD-003"
    exit_code = 11


class NodeOwnerError(LocalError, PermissionError):
    """The node's directory is not this user's own."""

    code = "NX-NOD-004"
    exit_code = 20


class RefusedError(LocalError, OSError):
    """The supervisor refused a request; `errno` says why."""

    code = "NX-NOD-005"
    exit_code = 1


class UnknownFiberError(LocalError, LookupError):
    """The node has no such fiber."""

    code = "NX-NOD-006"
    exit_code = 1


class LedgerError(CorruptError):
    """The ledger does not prove what it says."""

    code = "NX-LDG-001"


class AbsentExtraError(LocalError, ImportError):
    """An optional part of the installation is missing; the hint says which."""

    code = "NX-CLI-002"
    exit_code = 40
