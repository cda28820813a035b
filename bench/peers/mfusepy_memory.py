"""The same filesystem of one file in memory over mfusepy, as its documentation writes one."""

import errno
import stat
import sys

try:
    import mfusepy
except (ImportError, OSError) as error:  # it loads libfuse when it is imported
    sys.exit(f"missing: {error}")

SIZE = 64 << 20


class Memory(mfusepy.Operations):
    """One file, `file`."""

    use_ns = True

    def __init__(self):
        self.content = bytes([7]) * SIZE

    def getattr(self, path, fh=None):
        """Attributes."""
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 1}
        if path == "/file":
            return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": SIZE}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def read(self, path, size, offset, fh):
        """Bytes."""
        return self.content[offset : offset + size]


if __name__ == "__main__":
    mfusepy.FUSE(
        Memory(),
        sys.argv[1],
        foreground=True,
        nothreads=True,
        direct_io=True,
        attr_timeout=0,
        entry_timeout=0,
        max_read=1 << 20,
    )
