"""The page in a browser: served on loopback, under its secret, and new when calls are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import jsonschema
import pytest

from page.conftest import Reader, browser, html_of, in_chromium, records, write

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from tokenguard.cli.dashboard import _listening  # noqa: E402
from tokenguard.cli.schemas import published  # noqa: E402
from tokenguard.facts import names  # noqa: E402
from tokenguard.facts.record import FaultRecord  # noqa: E402
from tokenguard.page.app import Dashboard  # noqa: E402


@contextmanager
def serving(*paths, kind=Dashboard):
    """The dashboard's address, while it is served."""
    shown = kind(paths, "secret-token", lambda: ())
    with _listening(0) as there:
        server = uvicorn.Server(uvicorn.Config(shown.app(), log_level="warning", access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([there],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{there.getsockname()[1]}/{shown.token}/"
        finally:
            server.should_exit = True
            thread.join()


def get(url, **headers):
    """Status, headers, text."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_the_page(nasty):
    """The page is served with its periods, keys and filters, and with headers that keep it to itself."""
    with serving(nasty) as url:
        status, headers, text = get(f"{url}?period=all&by=tenant")
    assert status == 200
    assert "sha256-" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    found = Reader(text)
    assert "acme" in found.text
    assert {"24 hours", "7 days", "30 days"} <= set(found.words)
    assert len(found.all("script")) == 1


def test_what_was_missed(tmp_path):
    """The page says what TokenGuard has missed in its period, and nothing of another."""
    now = time.time_ns()
    path = write(tmp_path / "u.db", [FaultRecord("unguarded", now - 3 * 86_400 * 10**9, 3), *records()])
    with serving(path) as url:
        assert "3 calls went out past the policy" in get(f"{url}?period=7d")[2]
        assert "past the policy" not in get(f"{url}?period=24h")[2]


@pytest.mark.parametrize("path", ["", "wrong/", "secret-toke/", "secret-token/other", "%00/"])
def test_without_the_secret(nasty, path):
    """Without the secret in the address there is no page, and nothing of it."""
    with serving(nasty) as url:
        base = url.removesuffix("secret-token/")
        status, _, text = get(base + path)
    assert status == 404
    assert "acme" not in text


def test_what_takes_longer(nasty):
    """What replays calls is served apart, so that the page need not wait for it."""
    with serving(nasty) as url:
        status, _, text = get(f"{url}later?period=all&where=feature=support")
        assert get(f"{url}later?period=year")[0] == 400
    assert status == 200
    assert "<script" not in text


def test_the_figures_as_json(nasty):
    """What the page is made of is served as the report's JSON, valid by its schema, for the same question."""
    with serving(nasty) as url:
        status, headers, text = get(f"{url}report.json?period=all&by=tenant&where=feature=support")
        assert get(f"{url}report.json?period=year")[0] == 400
    assert (status, headers["Content-Type"]) == (200, "application/json")
    found = json.loads(text)
    jsonschema.validate(found, published("report"))
    assert found["by"] == ["tenant"]
    assert found["total"]["calls"] == sum(row["calls"] for row in found["rows"])


def test_another_host(nasty):
    """Asked for by another name, as a page elsewhere would that has its name pointed here, it says nothing."""
    with serving(nasty) as url:
        assert get(url, Host="evil.example")[0] == 400
        assert get(url, Host="localhost")[0] == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("period=year", "'year' is no period: use one of 24h"),
        ("by=modle", "no call has a key 'modle'. Did you mean 'model'"),
        ("where=feature", "'feature' is no condition"),
        ("by=a'b", "is no key"),
    ],
)
def test_bad_questions(nasty, query, said):
    """A question that makes no sense is answered with what would do."""
    with serving(nasty) as url:
        status, headers, text = get(f"{url}?{query}")
    assert status == 400
    assert said in text
    assert headers["Content-Type"].startswith("text/plain")


def test_new_calls(tmp_path):
    """The state changes when calls are recorded, and only then; the page before the first call says so."""
    path = tmp_path / "u.db"
    with serving(path) as url:
        assert "No call that matches" in get(url)[2]
        empty = get(f"{url}state")[2]
        write(path, records(days=2, nasty=False))
        first = get(f"{url}state")[2]
        assert first != empty
        assert get(f"{url}state")[2] == first
        assert "support" in get(f"{url}part?period=all")[2]
        write(path, records(days=1, nasty=False, seed=5))
        assert get(f"{url}state")[2] != first


def test_the_command(nasty):
    """The command prints the address, with a secret that is new each time, and listens on this machine alone."""
    urls = set()
    for _ in range(2):
        program = [sys.executable, "-m", "tokenguard", "dashboard", "--no-open", "--port", "0", "--source", str(nasty)]
        running = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            url = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", running.stdout.readline())[0]
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    status = get(f"{url}?period=all")[0]
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            assert status == 200
            urls.add(url.split("/")[3])
        finally:
            running.terminate()
            running.communicate(timeout=20)
    assert len(urls) == 2


def test_commands_that_cannot_be(tmp_path, nasty):
    """A port that is taken, a source that is not there: one line, exit code 2."""

    def run(*arguments):
        program = [sys.executable, "-m", "tokenguard", "dashboard", "--no-open", *arguments]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    with _listening(0) as taken:
        code, said = run("--port", str(taken.getsockname()[1]), "--source", str(nasty))
    assert (code, said.count("\n")) == (2, 1)
    assert "use another --port" in said
    code, said = run("--source", str(tmp_path / "none.db"))
    assert (code, said.count("\n")) == (2, 1)


# --- in a real browser -----------------------------------------------------------------------------------------------


@browser
@pytest.mark.parametrize("options", [(), ("--blink-settings=preferredColorScheme=0",), ("--window-size=390,844",)])
def test_in_a_browser(nasty, tmp_path, options):
    """A browser lays the file out with its style and script, runs nothing else, and has nothing to complain of."""
    file = tmp_path / "page.html"
    file.write_text(html_of(nasty))
    logged = in_chromium(file.as_uri(), tmp_path / "profile", "--enable-logging=stderr", "--dump-dom", *options)
    found = Reader(logged)
    assert "taken" not in next(iter(re.findall(r"<title>(.*?)</title>", logged)))
    assert found.all("img") == []
    assert len([each for each in found.all("g") if each.get("class") == "column"]) in (20, 21)


class Busy(Dashboard):
    """A dashboard whose program records calls when a browser looks for news the second time."""

    looks = 0

    def _state(self, request):
        self.looks += 1
        if self.looks == 2:
            fresh = records(days=1, nasty=False)[:-1]
            for record in fresh:
                record.attributes |= {"tokenguard.feature": "fresh-feature", names.COST: 50.0}
            write(self.paths[0], fresh)
        return super()._state(request)


@browser
def test_the_script_runs_under_the_policy(nasty, tmp_path):
    """In a browser a served page looks for news, and shows the calls that came meanwhile."""
    with serving(nasty, kind=Busy) as url:
        options = ("--dump-dom", "--virtual-time-budget=15000")
        dom = in_chromium(f"{url}?period=all", tmp_path / "profile", *options)
    assert "fresh-feature" in dom
