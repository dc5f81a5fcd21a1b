"""Clients: Python SDK, command line, web page. Import neither model nor server."""
