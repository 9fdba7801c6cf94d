"""Everything that can go wrong for a reason the user can mend.

MercuryError
├── SettingsError          a command-line value that cannot be used
├── ServerGone             the server under a harness or test ended or broke the protocol
└── (mercury_model.errors)
    └── ModelError         weights missing, altered, in an unknown format; runtime not available
"""

from mercury_model.errors import ErrorWithRemedy, ModelError


class MercuryError(ErrorWithRemedy):
    """An error with its remedy: `str(error)` is one or two sentences meant for the user."""


class SettingsError(MercuryError):
    """A value given on the command line that cannot be used."""


class ServerGone(MercuryError):
    """The server ended, or answered with something that is not the protocol."""


__all__ = ["MercuryError", "ModelError", "ServerGone", "SettingsError"]
