"""The face towards POSIX programs, and the assembly of a node out of the layers below."""
