"""The Wyoming protocol, by which Home Assistant finds and uses speech services, on a TCP port of its own."""
