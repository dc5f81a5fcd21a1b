"""`sled-tts bench`: what it costs to speak, on this machine."""
