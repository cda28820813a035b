"""The fibers of the default node, each a module over `nexus.fiber`."""
