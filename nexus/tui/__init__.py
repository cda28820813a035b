"""The terminal screen: a client of the JSON events that scripts read."""
