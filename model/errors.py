"""Errors of the model layer; the server maps them to HTTP statuses and WebSocket close codes.

ModelError
├── ConfigError        a configuration field is missing, unknown or out of range
├── CheckpointError    a checkpoint is missing, incomplete or does not fit its configuration
├── TokenizerError     text or token ids the vocabulary cannot represent
└── AudioInputError    reference audio that cannot be used
"""


class ModelError(Exception):
    """Base of every error the model layer raises on purpose.

    `param` names the offending field when there is one.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ConfigError(ModelError):
    """A configuration field is missing, unknown or out of range."""


class CheckpointError(ModelError):
    """A checkpoint is missing, incomplete or does not fit its configuration."""


class TokenizerError(ModelError):
    """Text or token ids the vocabulary cannot represent."""


class AudioInputError(ModelError):
    """Reference audio that cannot be decoded, or lies outside the accepted limits."""
