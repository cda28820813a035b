"""The NexFS engine: content-addressed storage as a sans-IO state machine."""
