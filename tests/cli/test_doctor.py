"""`tokenguard doctor`: each SDK is tried by a call, and what is wrong is said, with exit code 1."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import jsonschema
import pytest

from tokenguard.cli import doctor
from tokenguard.cli.probes import PROBES
from tokenguard.cli.schemas import published
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.policy import loads
from tokenguard.providers import SDKS, Sdk

pytestmark = [  # the clients of probes are not closed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OPENAI = SDKS[0]


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as provider:
        yield provider


def test_every_probe_is_of_a_known_sdk():
    """A probe is for a row, so that none is forgotten when a row goes."""
    assert set(PROBES) <= {sdk.module for sdk in SDKS}


@pytest.mark.parametrize("module", ["openai._base_client", "anthropic._base_client", "ollama._client"])
def test_reached(module, provider, installed):
    """A call through the SDK was seen, once."""
    sdk = next(each for each in SDKS if each.module == module)
    check = doctor._sdk(sdk, PROBES[module], provider.url)
    assert (check.ok, check.said) == (True, "reached: a call was measured")


def test_gone_round(provider, installed, monkeypatch):
    """Somebody gave the SDK's method another body: that is seen in place, and by the call."""
    import openai._base_client

    monkeypatch.setattr(openai._base_client.SyncAPIClient.request, "__kwdefaults__", {})
    check = doctor._sdk(OPENAI, PROBES[OPENAI.module], provider.url)
    assert not check.ok
    assert "has been replaced" in check.said


def test_not_seen(provider, installed):
    """A call that nobody saw is a failure, with what came of it."""

    def fails(url):
        raise ZeroDivisionError

    check = doctor._sdk(OPENAI, fails, provider.url)
    assert (check.ok, check.said) == (
        False,
        "a call was measured 0 times, not once (the call itself failed: ZeroDivisionError)",
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"__init__.py": "raise ImportError('no libfoo')"}, "cannot be imported: ImportError: no libfoo"),
        (
            {"__init__.py": ""},
            "has no broken_sdk._base_client: TokenGuard measures versions 7; this one is not measured",
        ),
    ],
)
def test_unseen(files, said, monkeypatch, tmp_path):
    """An SDK that is installed, and has not the module that is wrapped, is a failure; one that is absent is none."""
    (tmp_path / "broken_sdk").mkdir()
    (tmp_path / "broken_sdk-1.0.dist-info").mkdir()
    (tmp_path / "broken_sdk-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken_sdk\nVersion: 1.0\n"
    )
    for name, text in files.items():
        (tmp_path / "broken_sdk" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_sdk", raising=False)
    rows = [
        Sdk("broken_sdk._base_client", "x", "stainless", tested="7"),
        Sdk("absent_sdk._base_client", "x", "stainless"),
    ]
    (check,) = doctor._unseen(rows, [row.module for row in rows])
    assert (check.ok, check.subject, check.said) == (False, "broken_sdk 1.0", said)
    sys.modules.pop("broken_sdk", None)


def test_endpoints(monkeypatch):
    """An endpoint that answers, and one that does not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        assert [check.ok for check in doctor._endpoints()] == [True]
    check = next(doctor._endpoints())
    assert not check.ok
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is not reached" in check.said


def test_store(monkeypatch, tmp_path):
    """A store that can be written, one that is a directory, and none."""
    monkeypatch.setenv("TOKENGUARD_STORE", str(tmp_path / "new" / "usage.db"))
    assert next(doctor._store()).ok
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv("TOKENGUARD_STORE", str(tmp_path))
    assert not next(doctor._store()).ok
    (tmp_path / "file").touch()
    for nowhere in ("/proc/none/usage.db", tmp_path / "file" / "usage.db"):  # to root everything is permitted
        monkeypatch.setenv("TOKENGUARD_STORE", str(nowhere))
        assert not next(doctor._store()).ok
    monkeypatch.setenv("TOKENGUARD_STORE", "off")
    assert next(doctor._store()).said == "off (TOKENGUARD_STORE)"


BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 1\nwindow = "day"\n[ledger]\nurl = "{}"\n'


def test_ledger(tmp_path):
    """A ledger that answers, and one that does not."""
    assert next(doctor._ledger(loads(BUDGET.format("memory:")))).ok
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    check = next(doctor._ledger(loads(BUDGET.format(f"redis://:secret@127.0.0.1:{port}/0"))))
    assert not check.ok
    assert check.subject == f"redis://127.0.0.1:{port}/0"
    assert not next(doctor._ledger(loads(BUDGET.format("sqlite:////proc/none/ledger.db")))).ok
    assert next(doctor._ledger(loads(BUDGET.format(f"sqlite:///{tmp_path}/new/ledger.db")))).ok
    assert not (tmp_path / "new").exists()
    assert list(doctor._ledger(loads(""))) == []


def test_the_command(tmp_path):
    """A broken policy fails the command; nothing is written."""
    (tmp_path / "tokenguard.toml").write_text("mod = 1\n")
    blocker = "import sys; sys.meta_path.insert(0, type('No', (), {'find_spec': staticmethod(no)}))"
    code = (
        "def no(name, path=None, target=None):\n"
        "    if name in ('" + "','".join({sdk.module.partition(".")[0] for sdk in SDKS}) + "'):\n"
        "        raise ModuleNotFoundError(name)\n"
        "from importlib import metadata\n"
        "version = metadata.version\n"
        "def kept(name):\n"
        "    if not name.startswith(('tokenguard', 'opentelemetry')):\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return version(name)\n"
        "metadata.version = kept\n"
        f"{blocker}\nfrom tokenguard.cli import main\nmain(['doctor', '--format', 'json'])\n"
    )
    env = {**os.environ, "TOKENGUARD_STORE": str(tmp_path / "usage.db")}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    told = json.loads(ran.stdout)
    jsonschema.validate(told, published("doctor"))
    checks = told["checks"]
    assert ran.returncode == 1, ran.stderr
    assert [check["part"] for check in checks if not check["ok"]] == ["policy"]
    assert "no provider SDK" in next(check["said"] for check in checks if check["part"] == "SDKs")
    assert not (tmp_path / "usage.db").exists()
