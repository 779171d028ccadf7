"""TG103: a number of pieces counts where the pieces get into a prompt; words of prompts count where they are words."""

from __future__ import annotations

import pytest

ASK = 'client.responses.create(model="m", input={}, max_output_tokens=5)'
TOP = "from openai import OpenAI\nclient = OpenAI()\n"

REPORTED = {
    "a chain that is run": (
        "def f(db, llm, question):\n    docs = db.similarity_search(question, k=40)\n    chain = make_chain(llm)\n"
        "    papers = [d.page_content for d in docs]\n    return chain.run(papers='\\n'.join(papers))"
    ),
    "a method of what searches": f"def reply(retriever, q):\n    docs = retriever.get(q, top_k=60)\n    return {ASK.format('str(docs) + q')}",
    "default of a parameter": (
        "def passages(index, v, top_k=25):\n    return index.query(vector=v, top_k=top_k, include_metadata=True)\n"
        f"def reply(index, q, v):\n    text = ' '.join(m.text for m in passages(index, v))\n    return {ASK.format('text + q')}"
    ),
    "default kept in the object": (
        "class Rag:\n    def __init__(self, index, top_k: int = 30):\n        self.index = index\n        self.top_k = top_k\n"
        "    def reply(self, q):\n        docs = self.index.query(vector=q, top_k=self.top_k, include_metadata=True)\n"
        f"        return {ASK.format('str(docs) + q')}"
    ),
    "default of what is given by place": (
        "def passages(index, v, top_k=25, /):\n    return index.query(vector=v, top_k=top_k, include_metadata=True)\n"
        f"def reply(index, q, v):\n    text = ' '.join(m.text for m in passages(index, v))\n    return {ASK.format('text + q')}"
    ),
    "k by position": (
        "def reply(store, q):\n    docs = store.similarity_search(q, 40)\n"
        f"    return {ASK.format('str(docs) + q')}"
    ),
    "a search of the project's own": (
        "class Rag:\n    def reply(self, q):\n        docs = self.find(q, top_k=50)\n        body = []\n"
        "        for d in docs:\n            body.append(d.text)\n"
        f"        return {ASK.format('chr(10).join(body) + q')}"
    ),
    "through a helper that returns texts": (
        "def body(q):\n    hits = search(q, k=50)\n    return ' '.join(h.text for h in hits)\n"
        f"def reply(q):\n    text = body(q)\n    return {ASK.format('text + q')}"
    ),
    "what a tool returns": (
        "from agents import function_tool\n@function_tool\ndef look_up(q):\n    return str(search_docs(q, top_k=60))"
    ),
}  # fmt: skip

SILENT = {
    "not a search": (
        "def reply(graph, q, seeds):\n    steps = graph.trace(q, seeds, top_k=30)\n"
        f"    return {ASK.format('str(steps) + q')}"
    ),
    "a smaller number is kept": (
        "def reply(store, q):\n    docs = store.similarity_search(q, k=40)\n    best = choose(docs, final_top_k=8)\n"
        f"    return {ASK.format('str(best) + q')}"
    ),
    "itertools is no tool": (
        "import itertools\nfor v in itertools.chain([1], [2]):\n    index.query(vector=v, top_k=50, include_metadata=True)"
    ),
    "contextlib is no context": (
        "from contextlib import contextmanager\n@contextmanager\ndef timed(index, v):\n"
        "    yield index.query(vector=v, top_k=50, include_metadata=True)"
    ),
    "every caller gives fewer, by place": (
        "def passages(index, v, top_k=25, /):\n    return index.query(vector=v, top_k=top_k, include_metadata=True)\n"
        f"def reply(index, q, v):\n    text = str(passages(index, v, 5))\n    return {ASK.format('text + q')}"
    ),
    "every caller gives fewer": (
        "def passages(index, v, top_k=25):\n    return index.query(vector=v, top_k=top_k, include_metadata=True)\n"
        f"def reply(index, q, v):\n    text = str(passages(index, v, top_k=5))\n    return {ASK.format('text + q')}"
    ),
    "a default that nobody here uses": (
        "def passages(index, v, top_k=25):\n    return index.query(vector=v, top_k=top_k, include_metadata=True)"
    ),
    "an own search for people": "def page(q):\n    return render(search(q, k=50))",
    "sampling": f"def reply(q):\n    text = model.decode(q, top_k=50, temperature=1)\n    return {ASK.format('text + q')}",
    "cut before it is used": f"def reply(q):\n    docs = search(q, k=50)\n    docs = docs[:5]\n    return {ASK.format('str(docs) + q')}",
}  # fmt: skip


@pytest.mark.parametrize("code", REPORTED.values(), ids=REPORTED)
def test_what_gets_into_a_prompt_is_reported_once(lint, code: str) -> None:
    """By name or position, by a default, by any function whose result reaches a prompt."""
    assert len(lint(TOP + code, "TG103")) == 1


@pytest.mark.parametrize("code", SILENT.values(), ids=SILENT)
def test_what_does_not_is_left_alone(lint, code: str) -> None:
    """No prompt near, a smaller number where it is called, another meaning of k."""
    assert lint(TOP + code if "import" not in code else code, "TG103") == []
