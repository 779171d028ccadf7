"""Retrieval asks for more pieces than an answer needs.

Every retrieved chunk is paid for in every answer: fifty chunks of 500 tokens are 25,000 input tokens for one
question, and models answer worse, not better, when the right passage is buried. Five to ten good chunks usually do.
Where many candidates are wanted to choose from, rerank them and pass on the best few: retrieval that feeds a reranker
is not reported.

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

from tokenguard.lint.facts import Presence
from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.rulebook import File, Report
from tokenguard.lint.syntax import Function

SEVERITY = "warning"
OPTIONS = {"max_top_k": 20}


class Row(NamedTuple):
    """A retrieval call: its last name, where k sits, and a keyword that must be there when the name is a common one."""

    name: str
    ks: tuple[str, ...]
    needs: tuple[str, ...] = ()


_SEARCH = ("k", "top_k", "limit")
ROWS = (
    *(Row(n, ("k",)) for n in (
        "similarity_search", "asimilarity_search", "similarity_search_with_score", "asimilarity_search_with_score",
        "similarity_search_with_relevance_scores", "asimilarity_search_with_relevance_scores",
        "similarity_search_by_vector", "max_marginal_relevance_search", "amax_marginal_relevance_search")),
    Row("as_retriever", ("search_kwargs.k", "search_kwargs.top_k", "similarity_top_k")),
    *(Row(n, ("similarity_top_k",)) for n in (
        "as_query_engine", "as_chat_engine", "VectorIndexRetriever", "VectorStoreQuery", "BM25Retriever",
        "from_defaults",
        "VectorContextRetriever", "QueryFusionRetriever", "VectorIndexAutoRetriever",
        "MultiModalVectorIndexRetriever")),
    Row("query", ("n_results",), ("query_texts", "query_embeddings", "query_images")),
    Row("query", ("top_k",), ("vector", "namespace", "include_metadata", "include_values")),
    Row("query_points", ("limit",), ("collection_name", "query")),
    Row("search", ("limit",), ("query_vector", "anns_field", "query_embedding")),
    Row("hybrid_search", ("limit",), ("reqs", "ranker")),
    *(Row(n, ("limit",)) for n in ("near_text", "near_vector")),
    *(Row(n, ("top_k",)) for n in (
        "InMemoryEmbeddingRetriever", "InMemoryBM25Retriever", "ChromaEmbeddingRetriever", "ChromaQueryTextRetriever",
        "PineconeEmbeddingRetriever", "QdrantEmbeddingRetriever", "WeaviateEmbeddingRetriever",
        "PgvectorEmbeddingRetriever",
        "ElasticsearchEmbeddingRetriever", "ElasticsearchBM25Retriever", "OpenSearchEmbeddingRetriever",
        "FAISSEmbeddingRetriever", "MilvusEmbeddingRetriever")),
    Row("VectorStoreRetriever", ("search_kwargs.k",)),
    *(Row(n, ("k",)) for n in ("Retrieve", "from_documents", "from_texts", "TFIDFRetriever", "KNNRetriever")),
)  # fmt: skip
_BY_NAME: dict[str, list[Row]] = {}
for _row in ROWS:
    _BY_NAME.setdefault(_row.name, []).append(_row)
_EVERYTHING = 1000  # from here on, everything is listed: that is no context for one answer
_LOADERS = frozenset({"from_documents", "from_texts", "from_defaults"})  # constructors that only retrievers give a k
WORDS = (
    "similarity_search", "marginal_relevance_search", "search_kwargs", "similarity_top_k", "n_results", "top_k=",
    "query_points", "query_vector", "near_text", "near_vector", "hybrid_search", "anns_field", "Retriever",
    "Retrieve(", "query_embedding",
)  # fmt: skip
_RERANK = re.compile(
    r"rerank|CrossEncoder|ContextualCompressionRetriever|\bFlashrank|\branker\b|\bRRF\b|reciprocal_rank", re.IGNORECASE
)


def check(file: File) -> Iterator[Report]:
    """Report each retrieval whose k is a number at or above the limit."""
    most = file.options["max_top_k"]
    for call in file.module.calls_of(_BY_NAME):
        func = call.func
        name = file.names.path(func).rpartition(".")[2].lstrip("?@")
        for row in _BY_NAME.get(name, ()):
            if row.needs and not any(n in file.arguments(call).known for n in row.needs):
                continue
            if name in _LOADERS and "Retriever" not in file.names.path(func):
                continue
            found = file.any_of(call, row.ks)
            k = file.constant(found.value) if found.presence is Presence.PRESENT else None
            if isinstance(k, int) and not isinstance(k, bool) and most <= k < _EVERYTHING and not _reranked(file, call):
                assert found.value is not None
                message = (
                    f"Retrieves {k} pieces for one question; {most} or more is too many. Lower it, or "
                    f"rerank and keep the best few."
                )
                yield Report(call, message, None, _fix(file, found.value, most // 2))
                break


def _fix(file: File, value: ast.expr, number: int) -> Fix | None:
    literal = file.literal_node(value)
    if literal is None:
        return None
    return Fix(f"Retrieve {number}", (Edit("replace", Span.of(literal), "", str(max(1, number))),))


def _reranked(file: File, call: ast.Call) -> bool:
    """Whether a reranker is at work where the call's result goes: in its function or class, or in module-level code."""
    place = file.module.class_of(call) or file.module.function_of(call)
    plain = (s for s in file.module.tree.body if not isinstance(s, Function | ast.ClassDef))
    for part in [place] if place is not None else plain:
        for node in ast.walk(part):
            text = getattr(node, "id", "") or getattr(node, "attr", "") or getattr(node, "arg", "")
            if isinstance(text, str) and _RERANK.search(text):
                return True
    return False
