"""The page of the providers, and the rows it is made from."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tokenguard.providers import APIS, BY_SESSION, OWN_APIS, SDKS, api_of, formats
from tokenguard.providers.page import page


def test_page_is_current():
    """docs/providers.md is what the rows say; write it with `make docs`."""
    assert (Path(__file__).parents[2] / "docs" / "providers.md").read_text() == page()


def test_every_seam_is_there():
    """Each row names a seam that can be imported without its SDK, and has `patch`."""
    for sdk in SDKS:
        assert callable(import_module(f"tokenguard.seams.{sdk.seam}").patch)


def test_every_path_finds_its_format():
    """No path of a format is hidden behind another's."""
    for provider, places in (("", APIS), *OWN_APIS.items()):
        for api in formats(places):
            for path in api.paths:
                assert api_of(f"/x{path}?v=1", provider) is api
    assert not any(api.paths for places in BY_SESSION.values() for api in formats(places))
