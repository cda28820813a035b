"""`nexus selftest`: run the shipped vectors against this installation."""
