"""Retrieval asks for more pieces than an answer needs.

Every retrieved chunk is paid for in every answer: fifty chunks of 500 tokens are 25,000 input tokens for one
question, and models answer worse, not better, when the right passage is buried. Five to ten good chunks usually do.
Where many candidates are wanted to choose from, rerank them and pass on the best few: retrieval that feeds a reranker,
or that is cut down afterwards (`docs[:5]`), is not reported. Nor is a search in code that shows no sign of a prompt.
A function of your own that searches (`self.search(question, k=50)`) counts where its result is seen to get into a
prompt.

By default it reports what is sure: a retriever of a framework for prompts, unless what it finds is only looked at or
returned, and a result that is seen to get into a prompt, if no loop asks about each piece. A plain search with talk of
prompts around it may serve a page of results: it is reported only if you select the rule, `--extend-select TG103`.

`max_top_k` (default 20) is the first number that is too many. The fix (unsafe: it changes what is retrieved) writes
half of it.

Bad:

    from langchain_chroma import Chroma

    store = Chroma(collection_name="docs")

    def context(question):
        return store.similarity_search(question, k=50)  # TG103

    retriever = store.as_retriever(search_kwargs={"k": 40})  # TG103

Good:

    from langchain_chroma import Chroma

    store = Chroma(collection_name="docs")

    def context(question):
        return store.similarity_search(question, k=10)  # TG103

    retriever = store.as_retriever(search_kwargs={"k": 10})  # TG103

Good:

    from langchain_chroma import Chroma

    store = Chroma(collection_name="docs")

    def context(question, allowed):
        found = store.similarity_search(question, k=50)
        return [doc for doc in found if doc.metadata["team"] in allowed][:5]

Bad:

    TOP_K = 100

    def build(index):
        return index.as_query_engine(similarity_top_k=TOP_K)  # TG103

Good:

    TOP_K = 10

    def build(index):
        return index.as_query_engine(similarity_top_k=TOP_K)  # TG103
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from tokenguard.facts.patterns import lazy
from tokenguard.lint.facts import Presence
from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.reach import calls, reaches_prompt
from tokenguard.lint.results import narrowed, sorted_out
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.syntax import Function, Scope, defaults_of, parameters_of, spelling, walk
from tokenguard.lint.uses import names_of, uses

SEVERITY = "warning"
TESTS = False
OPTIONS = {"max_top_k": 20}


class Row(NamedTuple):
    """A retrieval call: its last name, where k sits, and a keyword that must be there when the name is a common one.

    A `plain` search is no part of a framework for prompts: it may serve a page of results as well as a model.
    """

    name: str
    ks: tuple[str, ...]
    needs: tuple[str, ...] = ()
    plain: bool = False
    at: int | None = None  # where k may stand without its name


_MEM0 = Row("search", ("limit", "top_k"), ("user_id", "agent_id", "run_id"), plain=True)
ROWS = (
    *(Row(n, ("k",), plain=True, at=1) for n in (
        "similarity_search", "asimilarity_search", "similarity_search_with_score", "asimilarity_search_with_score",
        "similarity_search_with_relevance_scores", "asimilarity_search_with_relevance_scores",
        "similarity_search_by_vector", "max_marginal_relevance_search", "amax_marginal_relevance_search")),
    Row("as_retriever", ("search_kwargs.k", "search_kwargs.top_k", "similarity_top_k")),
    *(Row(n, ("similarity_top_k",)) for n in (
        "as_query_engine", "as_chat_engine", "VectorIndexRetriever", "BM25Retriever", "from_defaults",
        "VectorContextRetriever", "QueryFusionRetriever", "VectorIndexAutoRetriever",
        "MultiModalVectorIndexRetriever", "VertexAiRagRetrieval")),
    Row("VectorStoreQuery", ("similarity_top_k",), plain=True),
    Row("query", ("n_results",), ("query_texts", "query_embeddings", "query_images"), plain=True),
    Row("query", ("top_k",), ("vector", "namespace", "include_metadata", "include_values"), plain=True),
    Row("query_points", ("limit",), ("collection_name", "query"), plain=True),
    Row("search", ("limit",), ("query_vector", "anns_field", "query_embedding"), plain=True),
    _MEM0,
    Row("recall", ("limit",), plain=True),  # crewai's memory
    Row("hybrid_search", ("limit",), ("reqs", "ranker"), plain=True),
    *(Row(n, ("limit",), plain=True) for n in ("near_text", "near_vector")),
    *(Row(n, ("top_k",)) for n in (
        "InMemoryEmbeddingRetriever", "InMemoryBM25Retriever", "ChromaEmbeddingRetriever", "ChromaQueryTextRetriever",
        "PineconeEmbeddingRetriever", "QdrantEmbeddingRetriever", "WeaviateEmbeddingRetriever",
        "PgvectorEmbeddingRetriever",
        "ElasticsearchEmbeddingRetriever", "ElasticsearchBM25Retriever", "OpenSearchEmbeddingRetriever",
        "FAISSEmbeddingRetriever", "MilvusEmbeddingRetriever")),
    *(Row(n, ("search_kwargs.k",)) for n in (
        "VectorStoreRetriever", "ParentDocumentRetriever", "MultiVectorRetriever", "SelfQueryRetriever")),
    *(Row(n, ("k",)) for n in ("Retrieve", "from_documents", "from_texts", "TFIDFRetriever", "KNNRetriever")),
)  # fmt: skip
_BY_NAME: dict[str, list[Row]] = {}
for _row in ROWS:
    _BY_NAME.setdefault(_row.name, []).append(_row)
_SEARCHES = frozenset(
    {"invoke", "ainvoke", "retrieve", "aretrieve", "get_relevant_documents", "aget_relevant_documents"}
)
_EVERYTHING = 1000  # from here on, a plain search lists everything: that is no context for one answer
_LOADERS = frozenset({"from_documents", "from_texts", "from_defaults"})  # constructors that only retrievers give a k


def _by_place(word: str) -> re.Pattern[bytes]:
    """A call whose name has `word` in it, with a number of two or three digits behind its first argument."""
    return lazy(word.encode() + rb"\w*\([^()\n]*,\s*\d{2,3}\s*[,)]")


WORDS = (
    "similarity_search", "marginal_relevance_search", "search_kwargs", "similarity_top_k", "n_results", "top_k=",
    "query_points", "query_vector", "near_text", "near_vector", "hybrid_search", "anns_field", "Retriever",
    "top_k", "num_results",
    *((k, "search", "retriev", "recall", "relevant", "context", "similar") for k in (" k=", "(k=", ",k=", " k: int")),
    *((word, _by_place(word)) for word in ("search", "retriev", "recall", "similar", "lookup")),
    "RagRetrieval", "Retrieve(", "query_embedding", ".recall(", "memory.search(", "mem0",
)  # fmt: skip
_RERANK = lazy(
    r"re_?rank|cross_?encoder|compressor|compress_documents|contextual_?compression|(?:^|_)ranker|(?:^|_)rrf|reciprocal"
    r"|rank_fusion",
    re.IGNORECASE,
)
_RERANKING = lazy(  # what the bytes of a file have if any of its words is one of those
    rb"[dfkpDFKP](?i:(?<=rank)|(?<=cross_encod)|(?<=crossencod)|(?<=comp)ress|(?<=rrf)|(?<=recip)rocal)"
)
# A word of prompts: on its own, or set off by an underscore or a capital letter; not the `tool` in `itertools`.
_PROMPTED = lazy(
    r"(?<![A-Za-z])(?:prompt|llm|context|answer|question|chat|completion|message|rag|agent|assistant|tool|relevant_doc)s?"
    r"(?![a-z])|(?<=[a-z])(?:Prompt|LLM|Context|Answer|Question|Chat|RAG|Agent|Assistant|Tool)s?(?![a-z])|generate_"
)
_SEARCH = lazy(
    r"(?:^|_)(?:search|retrieve|retrieval|query|lookup|recall|similar|similarity|relevant|context|chunks|passages"
    r"|find|fetch|match|matches|nearest|neighbou?rs|docs|documents|evidence|snippets|memories|knowledge|top|rag|knn)(?:_|$)"
    r"|[sS]earch|[rR]etriev"
)
_OBJECT = lazy(r"[rR]etriever|[sS]earcher|vector_?(?:store|db)|(?:^|_)(?:index|search)$")
_SMALLER = lazy(r"(?:^|_)(?:top_?k|top_?n|k|n_results|num_results)$", re.IGNORECASE)
_TOKENS = lazy(r"(?:count|num|calculate|total|remaining|available)_(?:\w+_)?tokens|tokens?_(?:limit|count|budget|left)")
_SAMPLES = lazy(r"generat|complet|create|config|sampl|invoke|chat|predict|params|settings")
_SAMPLING = frozenset({"temperature", "top_p", "max_tokens", "max_new_tokens", "do_sample", "messages", "prompt"})
_KS = ("k", "top_k", "n_results", "num_results", "similarity_top_k")


def check(file: File) -> Iterator[Report]:
    """Report each retrieval whose k is a number at or above the limit."""
    told: set[ast.expr] = set()  # a default, or a constant, is reported where it is used first
    for call in _counting(file):
        path = file.names.path(call.func)
        name = path.rpartition(".")[2].lstrip("?@")
        rows = _BY_NAME.get(name, ())
        for row in rows:
            report = _report(file, call, row, path, told) if _applies(file, call, row, path, name) else None
            if report is not None:
                yield report
                break
        else:
            asked = f"{spelling(call.func) or name}".rpartition(".")[0].rpartition(".")[2]  # `retriever.get(...)`
            if (
                (_SEARCH.search(name) or _OBJECT.search(asked))
                and not _samples(call, name)
                and (report := _report(file, call, _OWN, path, told))
            ):
                yield report


_OWN = Row("", _KS, at=1)  # any function that says it searches
_KEYWORDS = frozenset(k.partition(".")[0] for row in (*ROWS, _OWN) for k in row.ks)


def _counting(file: File) -> list[ast.Call]:
    """The calls that may be given a k: by its name, by its place, or by the default of a function of this file."""
    functions = (f for f in file.module.all(ast.FunctionDef, ast.AsyncFunctionDef) if isinstance(f, Function))
    if any(parameter.arg in _KEYWORDS for f in functions for parameter, _ in defaults_of(f.args)):
        return file.module.calls
    return [
        call
        for call in file.module.calls
        if len(call.args) > 1 or any(keyword.arg is None or keyword.arg in _KEYWORDS for keyword in call.keywords)
    ]


def _samples(call: ast.Call, name: str) -> bool:
    """Whether `top_k` is the one of sampling: how many tokens a model chooses from."""
    return name[:1].isupper() or bool(_SAMPLES.search(name)) or any(k.arg in _SAMPLING for k in call.keywords)


def _applies(file: File, call: ast.Call, row: Row, path: str, name: str) -> bool:
    if row.needs and file.any_of(call, row.needs).presence is not Presence.PRESENT:
        return False
    if name in _LOADERS and "Retriever" not in path:
        return False
    if file.constant(file.arguments(call).known.get("response_mode")) == "no_text":
        return False  # llama-index then only searches
    return row is not _MEM0 or "mem0" in path or (spelling(call.func) or "").endswith("memory.search")


def _report(file: File, call: ast.Call, row: Row, path: str, told: set[ast.expr]) -> Report | None:
    """The finding of a call whose k is too large and whose results go into a prompt, whole."""
    most = file.options["max_top_k"]
    value = _k(file, call, row, path)
    if value is None:
        return None
    literal = _literal(file, call, value)
    if literal in told:
        return None
    k = file.constant(literal)
    framework = bool(row.name) and not row.plain
    if not isinstance(k, int) or isinstance(k, bool) or k < most or (k >= _EVERYTHING and not framework):
        return None
    if _reranks(file) or narrowed(file, call, most) or _kept(file, call, min(k, most)) or _counts_tokens(file, call):
        return None
    retriever = framework and literal is value
    reaches = not _looked_at(file, call) if retriever else reaches_prompt(file, call)
    if not reaches and not retriever and (not row.plain or path.startswith("@") or not _for_a_prompt(file, call)):
        return None
    told.add(literal)
    message = (
        f"Retrieves {k} pieces for one question; {most} or more is too many. Lower it, or rerank and keep the best few."
    )
    return Report(call, message, None, _fix(file, literal, most // 2), reaches and not sorted_out(file, call))


def _looked_at(file: File, made: ast.Call) -> bool:
    """Whether a retriever is not used, or only searches, and what it finds is not seen to get into a prompt."""
    scope = file.module.scope_at(made)
    used = [n for n in uses(file, made) if not isinstance(n, ast.Name) or _seen_from(file, n, scope)]
    if not used:
        names = names_of(file, made)
        return bool(names) and all(map(str.isidentifier, names)) and file.module.function_of(made) is not None
    searches = []
    for node in used:
        method = file.module.parents.get(node)
        if isinstance(method, ast.Attribute) and method.attr in _SEARCHES:
            search = file.module.parents.get(method)
            if isinstance(search, ast.Call) and search.func is method:
                searches.append(search)
    return len(searches) == len(used) and not any(reaches_prompt(file, search) for search in searches)


def _seen_from(file: File, name: ast.Name, scope: Scope) -> bool:
    found = file.module.scope_at(name).lookup(name.id)
    return found is None or found[0] is scope


def _k(file: File, call: ast.Call, row: Row, path: str) -> ast.expr | None:
    """What is given for k: by its name, by its place, or by the default of a function of this file."""
    found = file.any_of(call, row.ks)
    if found.presence is not Presence.ABSENT:
        return found.value
    function = file.names.definition(path)
    if isinstance(function, Function):
        places = parameters_of(function)[: len(call.args)]
        for parameter, default in defaults_of(function.args):
            if parameter.arg in row.ks:
                return call.args[places.index(parameter.arg)] if parameter.arg in places else default
        return None
    return call.args[row.at] if row.at is not None and len(call.args) > row.at else None


def _literal(file: File, call: ast.Call, value: ast.expr) -> ast.expr:
    """The expression that gives k: `value`, or the default of the parameter it is, if a call leaves it at that."""
    if file.constant(value) is not None:
        return value
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "self":
        owner = file.module.class_of(value)  # self.top_k = top_k
        bindings = file.module.attributes(owner).get(value.attr, []) if owner else []
        if len(bindings) == 1 and isinstance(bindings[0].value, ast.Name):
            value = bindings[0].value
    found = file.module.scope_at(value).lookup(value.id) if isinstance(value, ast.Name) else None
    if not found or len(found[1]) != 1 or found[1][0].kind != "param" or found[1][0].value is None:
        return value
    function = found[0].node
    if not isinstance(function, Function):
        return value
    name = found[1][0].node.arg  # type: ignore[attr-defined]
    positional = parameters_of(function)
    at = positional.index(name) if name in positional else len(positional)
    callers = [c for c in file.module.called.get(function.name, ()) if calls(file, c, function)]
    left = any(len(c.args) <= at and all(k.arg != name for k in c.keywords) for c in callers)
    return found[1][0].value if left or not callers else value


def _kept(file: File, call: ast.Call, below: int) -> bool:
    """Whether the function around a search names a smaller number of results to keep: `{"final_top_k": 10}`."""
    inside = set(walk(call))
    for node in walk(file.module.function_of(call) or file.module.tree):
        pairs: list[tuple[str | None, ast.expr]] = []
        if isinstance(node, ast.keyword) and node not in inside:
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            pairs = [(file.constant(key), value) for key, value in zip(node.keys, node.values, strict=True) if key]  # type: ignore[misc]
        for name, value in pairs:
            if isinstance(name, str) and "_" in name and _SMALLER.search(name) and value not in inside:
                number = file.constant(value)
                if isinstance(number, int) and 0 < number < below:
                    return True
    return False


def _counts_tokens(file: File, call: ast.Call) -> bool:
    """Whether the function around a search counts tokens: it takes as many pieces as there is room for."""
    names = [getattr(n, "id", getattr(n, "attr", "")) for n in walk(file.module.function_of(call) or file.module.tree)]
    return any(map(_TOKENS.search, (*names, *(k.arg or "" for k in call.keywords))))


def _fix(file: File, value: ast.expr, number: int) -> Fix | None:
    literal = file.literal_node(value)
    if literal is None:
        return None
    return Fix(f"Retrieve {number}", (Edit("replace", Span.of(literal), "", str(max(1, number))),))


def _for_a_prompt(file: File, call: ast.Call) -> bool:
    """Whether the class, function or script around a search speaks of prompts, and the search returns texts."""
    include = file.arguments(call).known.get("include")  # Chroma returns what is listed
    if isinstance(include, ast.List) and "documents" not in [file.constant(item) for item in include.elts]:
        return False
    place = file.module.class_of(call) or file.module.function_of(call)
    script = [s for s in file.module.tree.body if not isinstance(s, Function | ast.Import | ast.ImportFrom)]
    return any(_PROMPTED.search(ast.unparse(part)) for part in ([place] if place is not None else script))


def _reranks(file: File) -> bool:
    """Whether a reranker, a fusion of rankings or a compressor is at work in the file, or gives it its name."""
    if "reranks" not in file.memory:
        place = "/".join(file.module.path.split("/")[-2:])  # of the file and its folder
        written = _words(file.module.tree) if _RERANKING.search(file.module.source) else ()
        file.memory["reranks"] = any(map(_RERANK.search, (place, *written)))
    return bool(file.memory["reranks"])


def _words(tree: ast.AST) -> Iterator[str]:
    """The names in a tree, and the texts given as keywords (`mode="reciprocal_rerank"`)."""
    for node in walk(tree):
        for field in ("id", "attr", "arg", "name"):
            if isinstance(text := getattr(node, field, None), str):
                yield text
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
