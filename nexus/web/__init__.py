"""The browser page: a client of the JSON events that scripts read."""
