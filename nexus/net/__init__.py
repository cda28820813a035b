"""Identity, sessions, frames and streams as sans-IO state machines."""
