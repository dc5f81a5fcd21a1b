"""The server: routes, sessions and the engine that turns text deltas into audio."""
