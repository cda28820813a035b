"""`nexus bench core`: the core mechanisms beside what the standard library offers."""
