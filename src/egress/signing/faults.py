"""Why a request could not be signed."""


class NotSigned(Exception):
    """The request is not as the signature wants it. The message may be shown: it names headers and keeps no value."""
