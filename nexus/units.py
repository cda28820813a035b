"""Value types with a unit in the name, so that a size is never taken for an index."""
