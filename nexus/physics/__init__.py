"""Host mechanisms over the C core: rings, registers, capabilities, filters, chunking."""

from nexus._core.checkpoint import Checkpoint as Checkpoint
from nexus._core.checkpoint import CheckpointSlot as CheckpointSlot
from nexus._core.chunker import Chunker as Chunker
from nexus._core.chunker import ChunkStream as ChunkStream
from nexus._core.hash import Blake3 as Blake3
from nexus._core.hash import blake3 as blake3
from nexus._core.hash import blake3_derive_key as blake3_derive_key
from nexus._core.hash import blake3_keyed as blake3_keyed
from nexus._core.hash import blake3_many as blake3_many
from nexus._core.hash import crc32c as crc32c
from nexus._core.hash import simd_level as simd_level
from nexus._core.hash import siphash24 as siphash24
from nexus._core.hash import siphash24_128 as siphash24_128
from nexus._core.hash import xxh3_64 as xxh3_64
from nexus._core.hash import xxh64 as xxh64

__all__ = [
    "Blake3",
    "Checkpoint",
    "CheckpointSlot",
    "ChunkStream",
    "Chunker",
    "blake3",
    "blake3_derive_key",
    "blake3_keyed",
    "blake3_many",
    "crc32c",
    "simd_level",
    "siphash24",
    "siphash24_128",
    "xxh3_64",
    "xxh64",
]
