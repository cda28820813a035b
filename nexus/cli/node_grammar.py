"""The commands about a node: boot and status, fibers, capabilities, events, the proof of them."""

from __future__ import annotations

from nexus.cli.grammar import Commands, Parser, add_command, add_node, add_noun

__all__ = ["add_node_commands"]


def _fiber_name(parser: Parser) -> None:
    parser.add_argument("fiber", help="its name, or a prefix that only it has")


def _add_boot(commands: Commands) -> None:
    boot = add_command(
        commands,
        "boot",
        "boot",
        "Start a node: its supervisor, its observer L1, its fibers. Stays in the foreground and "
        "tells what happens; Ctrl-C or SIGTERM shuts the node down in order.",
        "  nexus boot\n"
        "  nexus boot site.kdl --node /srv/site --for 60\n"
        "  nexus boot --json | jq .title",
    )
    boot.add_argument(
        "description",
        nargs="?",
        metavar="NODE.kdl",
        help="what it consists of; without it node.kdl of its directory",
    )
    boot.add_argument(
        "--for", dest="seconds", metavar="SECONDS", type=float, help="shut down after so long"
    )
    boot.add_argument(
        "--waive",
        metavar="LAYER",
        action="append",
        default=[],
        help="accept for all fibers and the observer that this layer is missing, see nexus doctor",
    )
    boot.add_argument("--quiet", action="store_true", help="tell that it is up, not what happens")
    add_node(boot)


def _add_fiber(commands: Commands) -> None:
    verbs = add_noun(commands, "fiber", "The fibers of a node.")
    listing = add_command(
        verbs, "list", "fiber", "List the fibers of a node.", "  nexus fiber list --json"
    )
    add_node(listing)
    show = add_command(
        verbs,
        "show",
        "fiber",
        "Show all that is known of a fiber, and what it wrote last.",
        "  nexus fiber show digest",
    )
    _fiber_name(show)
    show.add_argument(
        "--lines", metavar="N", type=int, default=10, help="how much of its log to show; 10"
    )
    add_node(show)
    start = add_command(
        verbs,
        "start",
        "fiber",
        "Begin a life of a fiber that is over, held or quarantined, or start one that was written "
        "into node.kdl since the boot.",
        "  nexus fiber start lazarus",
    )
    _fiber_name(start)
    add_node(start)
    stop = add_command(
        verbs,
        "stop",
        "fiber",
        "Ask a fiber to end, and do not restart it; after its grace it is killed.",
        "  nexus fiber stop lazarus\n  nexus fiber stop lazarus --now",
    )
    _fiber_name(stop)
    stop.add_argument("--now", action="store_true", help="end it by SIGKILL, without grace")
    add_node(stop)
    restart = add_command(
        verbs,
        "restart",
        "fiber",
        "End the life of a fiber by SIGKILL and begin another, from its checkpoint if it has one.",
        "  nexus fiber restart digest",
    )
    _fiber_name(restart)
    add_node(restart)


def _add_cap(commands: Commands) -> None:
    verbs = add_noun(commands, "cap", "The capabilities of a node's fibers.")
    listing = add_command(
        verbs,
        "list",
        "cap",
        "List the capabilities of one fiber, or of all.",
        "  nexus cap list\n  nexus cap list digest --json",
    )
    listing.add_argument("fiber", nargs="?", help="its name, or a prefix that only it has")
    add_node(listing)
    grant = add_command(
        verbs,
        "grant",
        "cap",
        "Give a fiber a capability.",
        "  nexus cap grant digest memory:frames --rights read,map --bounds 0:4096\n"
        "  nexus cap grant digest memory:frames --rights read --parent 0\n"
        "  nexus cap grant digest 'channel:#5' --rights read,map",
    )
    _fiber_name(grant)
    grant.add_argument(
        "object",
        metavar="TYPE:NAME",
        help="entity, channel, memory, interrupt, time or entropy; and any name for the object, "
        "or of a handle that was revoked its number, as #5",
    )
    grant.add_argument(
        "--rights",
        required=True,
        help="read, write, execute, map, delegate, revoke, copy, spawn, with commas between",
    )
    grant.add_argument("--bounds", metavar="START:END", default="0:0", help="END is not in it; 0:0")
    grant.add_argument(
        "--parent", metavar="INDEX", type=int, help="of the fiber's one that it derives from"
    )
    add_node(grant)
    revoke = add_command(
        verbs,
        "revoke",
        "cap",
        "Take a capability away, all that was derived from it, and the handle that it names.",
        "  nexus cap revoke digest 0",
    )
    _fiber_name(revoke)
    revoke.add_argument("index", type=int, help="of the capability, from nexus cap list")
    add_node(revoke)


def _add_events(commands: Commands) -> None:
    stl = add_noun(commands, "stl", "The stream of events of a node.")
    watch = add_command(
        stl,
        "watch",
        "stl",
        "Show the events of a node as they happen; with --json, one JSON document a line.",
        "  nexus stl watch\n  nexus stl watch --since 0 --json | jq 'select(.fiber == \"digest\")'",
    )
    watch.add_argument(
        "--since",
        metavar="ID",
        type=int,
        help="begin after this event; 0: with the oldest that is left; without it: with new ones",
    )
    watch.add_argument("--fiber", metavar="NAME", help="only events about this fiber")
    watch.add_argument("--kind", help="only events of this kind, such as FiberSpawn")
    watch.add_argument(
        "--for", dest="seconds", metavar="SECONDS", type=float, help="end after so long"
    )
    add_node(watch)
    beb = add_noun(commands, "beb", "The error buffer of a node: what its supervisor noted last.")
    show = add_command(
        beb,
        "show",
        "beb",
        "Show what the supervisor wrote into its error buffer; works on a dead node, too.",
        "  nexus beb show\n  nexus beb show --last 20 --json",
    )
    show.add_argument("--last", metavar="N", type=int, help="only the newest N")
    add_node(show)
    verify = add_command(
        commands,
        "verify",
        "verify",
        "Prove the ledger of a node: that its records follow from each other, and are signed. "
        "Otherwise it names the first that does not, with exit code 13.",
        "  nexus verify\n  nexus verify --node /srv/site --json",
    )
    verify.add_argument(
        "--key",
        metavar="HEX",
        help="the public key that must have signed; without it key.pub of the node",
    )
    add_node(verify)


def add_node_commands(commands: Commands) -> None:
    """Add all of them."""
    _add_boot(commands)
    status = add_command(
        commands,
        "status",
        "status",
        "Show whether a node is up, and how its fibers are.",
        "  nexus status\n  nexus status --node /srv/site --json",
    )
    add_node(status)
    _add_fiber(commands)
    _add_cap(commands)
    _add_events(commands)
    top = add_command(
        commands,
        "top",
        "top",
        "Watch a node in the terminal; takes the extra nexus-node[tui].",
        "  nexus top",
    )
    add_node(top)
