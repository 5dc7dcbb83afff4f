"""One family of errors; every message says what is wrong and what to do about it."""


class RedpencilError(Exception):
    """Anything Redpencil refuses or cannot do, in words for the person who asked."""


class BadInput(RedpencilError):
    """The caller sent something that cannot be used (HTTP 422)."""


class Malformed(BadInput):
    """The request itself cannot be parsed (HTTP 400)."""


class Unauthorized(RedpencilError):
    """A key is needed and was not given, or is not known (HTTP 401)."""


class BadImage(BadInput):
    """The bytes are not an image or document that can be read (HTTP 422)."""


class TooLarge(BadInput):
    """The input is well-formed but over a limit (HTTP 413)."""


class UnsupportedMedia(BadInput):
    """The content type is not one that is read here (HTTP 415)."""


class NotFound(RedpencilError):
    """No such thing is known (HTTP 404)."""


class Conflict(RedpencilError):
    """The request contradicts the present state (HTTP 409)."""


class Refused(RedpencilError):
    """A rule of the loop forbids it, for instance a failed verdict (HTTP 409)."""


class Busy(RedpencilError):
    """More is asked than can be done now (HTTP 429); retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(RedpencilError):
    """A needed part is not up yet (HTTP 503); retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Damaged(RedpencilError):
    """Stored bytes do not match their hash, or a bundle contradicts its own manifest (HTTP 500)."""
