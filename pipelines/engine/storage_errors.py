"""What a storage that fails means, in a sentence."""

from __future__ import annotations

from pipelines.errors import ReelhouseError

_DENIED = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "ExpiredToken",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "NoAuthWithAWSException",
    "Status Code: 403",
)
_GONE = ("Connection refused", "UnknownHostException", "Unable to execute HTTP request", "ConnectTimeout")


def storage_failure(root: str, text: str) -> ReelhouseError | None:
    """The error when `text`, what the storage's client said, tells of one of these; else None."""
    if "No space left" in text:
        return ReelhouseError(f"the disk of {root} is full; free some space", code="disk_full")
    if root.startswith("s3a://") and any(sign in text for sign in _DENIED):
        message = (
            f"the object storage refuses access to {root}; give valid credentials (environment, profile, role"
            " or fs.s3a.access.key and fs.s3a.secret.key in spark.conf) that may list, read, write and delete"
            " there, and start again: nothing is lost"
        )
        return ReelhouseError(message, code="storage_denied")
    if root.startswith("s3a://") and "UnknownStoreException" in text:
        message = f"the bucket of {root} does not exist; create it, or correct storage.root"
        return ReelhouseError(message, code="storage_missing")
    if root.startswith("s3a://") and any(sign in text for sign in _GONE):
        message = (
            f"the object storage of {root} does not answer; correct fs.s3a.endpoint in spark.conf, or start "
            "again when it is back: nothing is lost"
        )
        return ReelhouseError(message, code="storage_unreachable")
    return None


def causes(error: Exception) -> list[str]:
    """What an error says went wrong, and of Spark's the causes under it, down to the last."""
    found = [str(error)]
    cause = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    while cause is not None:
        found.append(str(cause.toString()))
        cause = cause.getCause()
    return found


def unwritable(root: str, error: Exception) -> ReelhouseError:
    """What a failed write to the root means, in a sentence."""
    told = causes(error)
    known = storage_failure(root, "\n".join(told))
    if known is not None:
        return known
    # The last cause, the first of its lines that says something.
    line = next((line.strip() for line in told[-1].splitlines() if line.strip()), type(error).__name__)
    message = f"the storage root {root} cannot be written ({line[:200]}); allow it, or set storage.root"
    return ReelhouseError(message, code="storage_unwritable")
