"""Results of a study as JATOS's API v1 gives them (jatos-api.yaml 1.1.0), kept as its export is.

First what there is (results/metadata), then the data of it, some study results at a time
(results/data). JATOS leaves out without an error what it cannot give: what was announced and did
not come is one here.
"""

import dataclasses
import http.client
import io
import ipaddress
import json
import os
import pathlib
import re
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from metamer_jax import storage
from metamer_jax.listening.serving import sessions

TOKEN_VARIABLE = "JATOS_TOKEN"
_API = "jatos/api/v1/results"
_AT_A_TIME = 50  # Study results, so that neither side holds all answers at once.
_TIMEOUT_S = 60
_FILE = re.compile(r"(?:.*/)?(study_result_(\d+)/comp-result_(\d+)/[\w.-]+)")
_WITHDRAWN = "ABORTED"  # The page's way to withdraw: JATOS deletes what was submitted.


class JatosError(OSError):
    """JATOS that cannot be reached, refuses, or gives something else than it announced."""

    def __init__(self, url: str, problem: str):
        super().__init__(f"JATOS at {url} {problem}")


@dataclasses.dataclass(frozen=True)
class Downloaded:
    """What a download left in its folder."""

    folder: pathlib.Path
    results: int  # Component results with data.
    notes: tuple[str, ...]  # For people: what is empty, unfinished, withdrawn, or gone.


def download(
    url: str,
    folder: str | os.PathLike,
    *,
    study: str,
    token: str,
    at_a_time: int = _AT_A_TIME,
) -> Downloaded:
    """Downloads a study's results: study_result_1/comp-result_2/data.txt and metadata.json.

    Data that are there are replaced by newer ones. What participants have withdrawn since is
    deleted here too; what JATOS has no more for another reason stays, and is told.

    Args:
        url: JATOS's address, such as https://jatos.example.org.
        folder: Where to; `responses.read` reads it.
        study: The study's UUID or number.
        token: An API token of somebody who may see the study ("jap_...").
        at_a_time: Study results in one request.

    Returns:
        The folder, and what to know of it.

    Raises:
        ValueError: The address is none, or would send the token unencrypted.
        JatosError: As its class says.
    """
    folder = pathlib.Path(folder)
    url = _checked(url)
    client = _Client(url, token)
    chosen = {"studyIds": int(study)} if study.isdigit() else {"studyUuids": study}
    found = _study_results(client.json("metadata?download=false", chosen), url)
    if not found:
        raise JatosError(
            url,
            f"has no results of study {study} that this token may see (is the study imported "
            f"there, and has anybody taken it?)",
        )
    expected = {
        (result["id"], component["id"]): component["data"]["size"]
        for result in found
        for component in result["componentResults"]
    }
    with_data = sorted({ids[0] for ids, size in expected.items() if size})
    came: set[tuple[int, int]] = set()
    for first in range(0, len(with_data), at_a_time):
        wanted = with_data[first : first + at_a_time]
        for name, ids, content in client.archive("data", {"studyResultIds": wanted}):
            if ids not in expected or not content.strip():
                continue
            storage.write_bytes(folder / name, content)
            came.add(ids)
    missing = [ids for ids, size in expected.items() if size and ids not in came]
    if missing:
        named = ", ".join(f"study result {a}, component result {b}" for a, b in missing[:10])
        raise JatosError(
            url, f"announced {len(missing)} results and did not give their data: {named}"
        )
    notes = _tidied(folder, found)
    storage.write_json(folder / "metadata.json", {"data": found})
    return Downloaded(folder, len(came), tuple(notes))


def _tidied(folder: pathlib.Path, found: Sequence[dict[str, Any]]) -> list[str]:
    """Deletes what was withdrawn; returns what there is to know of the results."""
    states = {result["id"]: result["studyState"] for result in found}
    gone, kept = set(), set()
    for path in sorted(folder.glob("study_result_*/comp-result_*/*")):
        number = int(path.parent.parent.name.removeprefix("study_result_"))
        if states.get(number) == _WITHDRAWN:
            path.unlink()
            gone.add(number)
        elif number not in states:
            kept.add(number)
    without = sum(
        not any(component["data"]["size"] for component in result["componentResults"])
        for result in found
    )
    withdrawn = sum(state == _WITHDRAWN for state in states.values())
    running = sum(state not in ("FINISHED", "FAIL", _WITHDRAWN) for state in states.values())
    notes = []
    for count, text in (
        (running, "study results are not finished: the same command takes what comes"),
        (without - withdrawn, "study results have no data: nothing was answered"),
        (withdrawn, "participants have withdrawn: JATOS has deleted their data"),
        (len(gone), "of these were here and are deleted too"),
        (
            len(kept),
            "study results of an earlier download are not at JATOS any more and stay here: "
            f"{', '.join(map(str, sorted(kept)[:20]))}",
        ),
    ):
        if count > 0:
            notes.append(f"JATOS: {count} {text}")
    return notes


def _checked(url: str) -> str:
    """Returns an address without a slash at its end.

    Raises:
        ValueError: It is none, or would send the token for everybody to read.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.username:
        raise ValueError(f"--jatos_url must be like https://jatos.example.org, got {url!r}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(
            f"--jatos_url must begin with https://, or the token is sent unencrypted, got {url!r}"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows none: the token is for one host alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Client:
    """Asks the API, with the token in a header; errors are one line and never hold the token."""

    def __init__(self, url: str, token: str):
        self._url = url
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect())

    def json(self, what: str, body: dict[str, Any]) -> Any:
        content = self._post(what, body)
        try:
            return sessions.parse_json(content)
        except sessions.SessionError as error:
            raise JatosError(self._url, f"answers {what} with no JSON: {error}") from error

    def archive(
        self, what: str, body: dict[str, Any]
    ) -> Iterator[tuple[str, tuple[int, int], bytes]]:
        """Yields name, study result and component result, and content of each file of results."""
        content = self._post(what, body)
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for name in archive.namelist():
                    known = _FILE.fullmatch(name)
                    if known and not name.endswith("metadata.json"):
                        ids = (int(known[2]), int(known[3]))
                        yield known[1], ids, archive.read(name)
        except (ValueError, OSError, *storage.ZIP_DAMAGE) as error:
            problem = f"answers {what} with no archive that can be read: {error}"
            raise JatosError(self._url, problem) from error

    def _post(self, what: str, body: dict[str, Any]) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        address, data = f"{self._url}/{_API}/{what}", json.dumps(body).encode()
        request = urllib.request.Request(address, data, headers, method="POST")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise JatosError(self._url, f"answers {error.code}: {_said(error)}") from error
        except urllib.error.URLError as error:
            raise JatosError(self._url, f"cannot be reached: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:  # Timed out, or cut off.
            raise JatosError(self._url, f"stopped answering: {error}") from error


def _said(error: urllib.error.HTTPError) -> str:
    """Returns the message of the API's error envelope, or what the status means."""
    if error.code in (301, 302, 303, 307, 308):
        return f"it is at {error.headers.get('Location', 'another address')}; give that address"
    try:
        about = json.loads(error.read())["error"]
        said = " ".join(str(about[name]) for name in ("code", "message") if about.get(name))
    except (ValueError, KeyError, TypeError, AttributeError):
        said = str(error.reason)
    if error.code in (401, 403):
        said += f" (the token in {TOKEN_VARIABLE} must be valid and of a member of the study)"
    return said


def _study_results(answer: Any, url: str) -> list[dict[str, Any]]:
    """Returns the study results in the answer to results/metadata.

    Raises:
        JatosError: It is of another form.
    """
    try:
        found = [result for study in answer["data"] for result in study["studyResults"]]
        for result in found:
            int(result["id"]), str(result["studyState"])
            for component in result["componentResults"]:
                int(component["id"]), int(component["data"]["size"])
    except (TypeError, KeyError, ValueError) as error:
        problem = f"answers results/metadata in a form that is not known ({error!r}): its API must"
        raise JatosError(url, f"{problem} be version 1") from error
    return found
