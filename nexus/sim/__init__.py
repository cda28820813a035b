"""A seeded world that implements the seams, so that faults and years pass in seconds."""
