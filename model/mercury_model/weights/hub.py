"""Files of model repositories, read from the hub as a stream.

Writes nothing and checks no hash; `sources` does. The hub's own client does the requests, but not
the download: since release 1.18 it begins anew whatever is here already.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mercury_model import dependencies

ANSWER_S = 5.0
"""How long the hub may take to answer at all before it counts as out of reach."""

_SILENCE_S = 30.0
"""How long nothing may arrive in the middle of a download."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model repository at a fixed revision."""

    repository: str
    revision: str
    file: str


def hub_download(
    file: HubFile, start: int, *, endpoint: str | None = None, answer_s: float = ANSWER_S
) -> Iterator[bytes]:
    """The content of `file` from byte `start` on.

    A connection that breaks is opened again for as long as each brings something. `endpoint` None
    is the hub that the client is configured for. Raises OSError, after `answer_s` seconds where the
    hub does not answer.
    """
    dependencies.silence("huggingface_hub")
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    # The exceptions of the HTTP library, which has another name from one release to the next.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    url = hf_hub_url(file.repository, file.file, revision=file.revision, endpoint=endpoint)
    arrived = start
    try:
        get_hf_file_metadata(url, timeout=answer_s, endpoint=endpoint, token=False)
        while True:
            before = arrived
            try:
                for block in _stream(url, arrived):
                    arrived += len(block)
                    yield block
                return
            except HTTPError:
                if arrived == before:
                    raise
    except HTTPError as error:
        raise OSError(str(error) or type(error).__name__) from error


def _stream(url: str, start: int) -> Iterator[bytes]:
    """One request for the bytes from `start` on; a server that sends all has those before dropped.

    The files are public: no token is sent.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {
        **build_hf_headers(token=False),
        "Accept-Encoding": "identity",
        "Range": f"bytes={start}-",
    }
    with get_session().stream(
        "GET", url, headers=headers, timeout=_SILENCE_S, follow_redirects=True
    ) as response:
        response.raise_for_status()
        skipped = 0 if response.status_code == 206 else start
        for block in response.iter_bytes():
            if block[skipped:]:
                yield block[skipped:]
            skipped = max(0, skipped - len(block))
