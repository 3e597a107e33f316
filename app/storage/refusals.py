"""What a store's refusal means, and what to do about it."""

from __future__ import annotations

import re

from app.errors import StorageAway, StorageError

_KNOWN = (
    ("NoSuchBucket", "there is no such bucket", "create it, or name another in STILLHOUSE_STORAGE_URL"),
    ("SignatureDoesNotMatch", "the secret key is wrong", "set AWS_SECRET_ACCESS_KEY to the one of AWS_ACCESS_KEY_ID"),
    ("InvalidAccessKeyId", "the access key is unknown", "set AWS_ACCESS_KEY_ID to one that this store knows"),
    ("RequestTimeTooSkewed", "this machine's clock and the store's differ", "set both by NTP"),
    ("ExpiredToken", "the credentials have run out", "renew AWS_SESSION_TOKEN and the two keys with it"),
    ("InvalidToken", "the session token is wrong", "set AWS_SESSION_TOKEN, or unset it for keys that need none"),
    ("PermanentRedirect", "the bucket is in another region", "set AWS_REGION to the bucket's"),
    ("AuthorizationHeaderMalformed", "the bucket is in another region", "set AWS_REGION to the bucket's"),
    ("QuotaExceeded", "the store has no room left", "free some space or raise its quota"),
    ("InsufficientStorage", "the store has no room left", "free some space or raise its quota"),
    (
        "AccessDenied",
        "the credentials do not allow it",
        "allow GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload on the bucket",
    ),
    # without keys they are asked of the machine or the container, at addresses of AWS' own
    ("/latest/api/token", "no credentials were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ("//169.254.1", "no credentials were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    (
        "invalid peer certificate",
        "its certificate is not trusted",
        "install its authority's certificate here",
    ),
)
_FORBIDDEN = re.compile(r"\b403\b|Forbidden")


def explain(what: str, said: str) -> StorageError:
    """A refusal as a sentence that names the setting to look at; anything else as a store that is away for a while."""
    for sign, meaning, remedy in _KNOWN:
        if sign in said:
            return StorageError(f"{what}: {meaning}; {remedy}")
    if _FORBIDDEN.search(said):
        return StorageError(f"{what}: the store refuses the credentials; check AWS_ACCESS_KEY_ID and its rights")
    return StorageAway(
        f"{what}: the store does not answer; look whether it runs and whether AWS_ENDPOINT_URL is right ({brief(said)})"
    )


def brief(said: str) -> str:
    """The library's words without what it adds for its authors."""
    return " ".join(said.partition("Debug source")[0].split())[:300]
