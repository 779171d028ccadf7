"""Whether a chat stream is asked for its usage (`stream_options.include_usage`), and the chunk that brings it hidden.

A chunk that the caller would have had anyway must not be taken away, and one that is there only because we asked must
not be seen. OpenAI and Azure send it on request alone. Others send it unasked: OpenRouter always, vLLM and LiteLLM
where they are set up to. Which do is learnt: the first complete stream of a model at such a host is not asked. Where
usage came, nobody needs to ask; where it did not, the later streams are asked, and their chunk is hidden.

https://platform.openai.com/docs/api-reference/chat/create, https://openrouter.ai/docs/use-cases/usage-accounting
"""

from __future__ import annotations

from typing import Final

from tokenguard.call.call import Call

ON_REQUEST: Final = ("api.openai.com", ".openai.azure.com", ".cognitiveservices.azure.com", ".openai.azure.us")
"""Ends of the names of hosts that send usage on request alone."""
MAX_KNOWN: Final = 4096
"""Models at hosts that are remembered, at the most."""

Place = tuple[str, int, str | None]


class UsageOption:
    """What is known of the hosts that streams come from. One a process."""

    def __init__(self, mode: str = "1") -> None:
        self.mode = mode
        """`0` never asks, `always` asks everybody, and `1` those who are known to want it."""
        self._on_request: dict[Place, bool] = {}
        self._refusing: set[str] = set()

    def asks(self, call: Call) -> bool:
        """Whether to ask for this stream's usage; notes on the call where its end will tell whether that is needed."""
        options = call.request.get("stream_options") or {}
        if self.mode == "0" or options.get("include_usage") or call.endpoint.host in self._refusing:
            return False
        host = call.endpoint.host
        if self.mode == "always" or host.endswith(ON_REQUEST):
            return True
        place: Place = (host, call.endpoint.port, call.model)
        known = self._on_request.get(place)
        if known is None:
            call.on_told = lambda told: self._learn(place, told)
        return known is True

    def _learn(self, place: Place, told: bool) -> None:
        if len(self._on_request) >= MAX_KNOWN:
            self._on_request.clear()
        self._on_request[place] = not told

    def refused(self, host: str) -> None:
        """A host that does not know the option is not asked again."""
        self._refusing.add(host)


OFF: Final = frozenset({"0", "false", "no", "off"})


def mode_of(setting: str | None) -> str:
    """The mode that `TOKENGUARD_INCLUDE_USAGE` names."""
    said = (setting or "1").strip().lower()
    return "0" if said in OFF else "always" if said == "always" else "1"
