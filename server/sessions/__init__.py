"""Sans-I/O utterance state machines between the routes and the engine."""
