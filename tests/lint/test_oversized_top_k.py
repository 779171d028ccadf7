"""TG103 on the shapes of real retrieval code."""

from __future__ import annotations

import pytest

ASK = "    return llm.invoke(f'{docs} {question}')"
LLAMA = "from llama_index.core.retrievers import VectorIndexRetriever, QueryFusionRetriever\n"

FOUND = {
    "each once": (
        "def f(db, llm, question):\n    docs = []\n    for d in db.similarity_search(question, k=30):\n"
        "        if d.page_content not in docs:\n            docs.append(d.page_content)\n    return llm.invoke(f'{docs} {question}')"
    ),
    "constant": "K = 50\ndef f(db, question):\n    return db.similarity_search(question, k=K)",
    "chroma": "def f(c, question):\n    return c.query(query_texts=[question], n_results=30)",
    "pinecone": "def context(index, v):\n    return index.query(vector=v, top_k=100, include_metadata=True)",
    "qdrant": "def context(c, v):\n    return c.search(collection_name='d', query_vector=v, limit=64)",
    "mem0": "from mem0 import Memory\nm = Memory()\ndef context(q):\n    return m.search(q, user_id='ann', limit=40)",
    "mem0 of the object": "class A:\n    def answer(self, q):\n        return self.memory.search(q, user_id='ann', limit=40)",
    "crewai memory": "def f(agent_memory, prompt):\n    return prompt + str(agent_memory.recall(prompt, limit=20))",
    "llama-index retriever": LLAMA + "def f(i):\n    return VectorIndexRetriever(index=i, similarity_top_k=25)",
    "haystack": "from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever\ndef f(s):\n    return InMemoryEmbeddingRetriever(s, top_k=40)",
    "dict of search_kwargs": "def f(db):\n    kw = {'k': 60}\n    return db.as_retriever(search_kwargs=kw)",
    "joined into a prompt": f"def f(index, v, llm, question):\n    res = index.query(vector=v, top_k=30, include_metadata=True)\n    docs = '\\n'.join(m['metadata']['text'] for m in res['matches'])\n{ASK}",
    "texts cut, not the list": f"def f(idx, llm, question):\n    nodes = idx.as_retriever(similarity_top_k=30).retrieve(question)\n    docs = '\\n'.join(n.get_content()[:300] for n in nodes)\n{ASK}",
    "a preview is printed": f"def f(db, llm, question):\n    chunks = db.similarity_search(question, k=30)\n    for c in chunks:\n        print(c.page_content[:80])\n    docs = ' '.join(c.page_content for c in chunks)\n{ASK}",
    "the answer is cut": "def f(db, llm, question, chain_of):\n    chain = chain_of(db.as_retriever(search_kwargs={'k': 50}), llm)\n    answer = chain.invoke(question)\n    return answer[:2000]",
    "cut, but not by much": f"def f(r, llm, question):\n    docs = r.as_retriever(search_kwargs={{'k': 50}}).invoke(question)[:40]\n{ASK}",
    "parents of small pieces": "from langchain.retrievers import ParentDocumentRetriever\ndef f(vs, store):\n    return ParentDocumentRetriever(vectorstore=vs, docstore=store, search_kwargs={'k': 30})",
    "a tool's results": "class Search(BaseTool):\n    def _run(self, query):\n        return '\\n'.join(d.page_content for d in self.db.similarity_search(query, k=50))",
    "a loop that skips": f"def f(db, llm, question):\n    docs = []\n    for d in db.similarity_search(question, k=30):\n        if not d.metadata:\n            continue\n        docs.append(d)\n{ASK}",
    "the default of a search of one's own": (
        "def search_docs(question, k=40):\n    return table[embed(question)][:k]\n"
        "def answer(llm, question):\n    docs = search_docs(question)\n    return llm.invoke(f'{docs} {question}')"
    ),
    "a place of one's own search": (
        "def search_docs(question, k):\n    return table[embed(question)][:k]\n"
        "def answer(llm, question):\n    docs = search_docs(question, 40)\n    return llm.invoke(f'{docs} {question}')"
    ),
    "a place of one's own search, by place only": (
        "def search_docs(question, k, /):\n    return table[embed(question)][:k]\n"
        "def answer(llm, question):\n    docs = search_docs(question, 40)\n    return llm.invoke(f'{docs} {question}')"
    ),
    "the default of a place": (
        "def search_docs(question, k=40, /):\n    return table[embed(question)][:k]\n"
        "def answer(llm, question):\n    docs = search_docs(question)\n    return llm.invoke(f'{docs} {question}')"
    ),
    "after a place": (
        "def search_docs(question, /, k=40):\n    return table[embed(question)][:k]\n"
        "def answer(llm, question):\n    docs = search_docs(question, 40)\n    return llm.invoke(f'{docs} {question}')"
    ),
    "everything, in a chain": "def f(db, chain_of, llm):\n    return chain_of(llm, retriever=db.as_retriever(search_kwargs={'k': 1000}))",
    "beside another that is too large": (
        LLAMA + "def f(i, j):\n    return Both(VectorIndexRetriever(index=i, similarity_top_k=30), Words(j, similarity_top_k=25))"
    ),
    "a retriever that a helper asks": (
        "def context(db, question):\n    retriever = db.as_retriever(search_kwargs={'k': 30})\n"
        "    return [d.page_content for d in retriever.invoke(question)]"
    ),
    "the place of a search elsewhere": (
        "def answer(kb, llm, question):\n    hits = kb.search(question, 45)\n    return llm.invoke(f'{hits} {question}')"
    ),
}  # fmt: skip

SILENT = {
    "as many as there is room for": (
        "def f(db, llm, question):\n    docs = []\n    for d in db.similarity_search(question, k=80):\n"
        "        if count_tokens(docs) < 3000:\n            docs.append(d)\n" + ASK
    ),
    "as many as the search finds room for": "def f(db, llm, question):\n    docs = db.search_docs(question, k=80, max_total_tokens=900)\n" + ASK,
    "a few of each source": (
        "def f(db, llm, question, groups):\n    for d in db.similarity_search(question, k=30):\n        groups[d.source].append(d)\n"
        f"    docs = []\n    for source, pieces in groups.items():\n        docs.extend(pieces[:3])\n{ASK}"
    ),
    "reranked": "from cohere import Client\ndef f(db, q, reranker, prompt):\n    docs = db.similarity_search(q, k=50)\n    return reranker.rerank(q, docs)[:5]",
    "cross encoder elsewhere in the file": "def f(db, question):\n    return db.similarity_search(question, k=50)\ndef g(cross_encoder, pairs):\n    return cross_encoder.predict(pairs)",
    "rank fusion": "def search(question, db, bm25, reciprocal_rank_fusion):\n    return reciprocal_rank_fusion([db.similarity_search(question, k=20), bm25.search(question)])",
    "fusion by its mode": LLAMA
    + "def f(a, b):\n    return QueryFusionRetriever([a, b], similarity_top_k=30, mode='reciprocal_rerank')",
    "compression retriever": "from langchain.retrievers import ContextualCompressionRetriever\ndef f(db, c):\n    return ContextualCompressionRetriever(base_compressor=c, base_retriever=db.as_retriever(search_kwargs={'k': 50}))",
    "compressor": "def answer(db, compressor, question):\n    return compressor.compress_documents(db.similarity_search(question, k=20), question)",
    "node postprocessor": "def f(index, cohere_rerank):\n    return index.as_query_engine(similarity_top_k=40, node_postprocessors=[cohere_rerank])",
    "sliced": "def answer(question, db, role):\n    raw = db.similarity_search(question, k=30)\n    return [d for d in raw if d.metadata.get('role') == role][:10]",
    "sliced on the spot": "def answer(question, db):\n    return db.similarity_search(question, k=30)[:5]",
    "sliced by a parameter": "def answer(question, c, top_k):\n    res = c.query(query_texts=[question], n_results=50)\n    out = []\n    for doc in res['documents'][0]:\n        out.append(doc)\n    return out[:top_k]",
    "sliced in the loop's head": "def prompt(v, index):\n    res = index.query(vector=v, top_k=30, include_metadata=True)\n    return [m['metadata']['text'] for m in res['matches'][:12]]",
    "sorted and cut": "def answer(question, db):\n    hits = db.similarity_search_with_score(question, k=40)\n    best = sorted(hits, key=lambda h: h[1])\n    return best[:5]",
    "taken until enough": "def answer(question, index, v, enough):\n    best = []\n    for m in index.query(vector=v, top_k=50, include_metadata=True).matches:\n        best.append(m)\n        if len(best) >= enough:\n            break\n    return best",
    "retriever run, then cut": "def prompt(vs, question):\n    retriever = vs.as_retriever(search_kwargs={'k': 50})\n    docs = retriever.invoke(question)\n    return docs[:6]",
    "nlargest": "import heapq\ndef answer(question, db):\n    return heapq.nlargest(5, db.similarity_search_with_score(question, k=40))",
    "none asked for a text": "def f(index, q):\n    return index.as_query_engine(similarity_top_k=50, response_mode='no_text').query(q)",
    "no more than a few of each": (
        "def answer(llm, db, question, kinds, k):\n    kept = {kind: [] for kind in kinds}\n"
        "    for d in db.similarity_search(question, k=40):\n        if len(kept[d.kind]) < k:\n            kept[d.kind].append(d)\n"
        "    return llm.invoke(f'{kept} {question}')"
    ),
    "no prompt in sight": "def gifs(index, v, card):\n    found = index.query(vector=v, top_k=30, include_metadata=True)\n    card([m['metadata']['url'] for m in found['matches']])",
    "chess": "def move(index, embedding):\n    return index.query(vector=embedding, top_k=30, include_metadata=True)",
    "listing without a query": "def history(prompt, c, when):\n    return c.query(query_embeddings=None, n_results=50, where={'at': when})",
    "taken in a numbered loop": "def answer(question, c, n):\n    res = c.query(query_texts=[question], n_results=30)\n    kept = []\n    for i in range(len(res['documents'][0])):\n        if res['metadatas'][0][i]['year'] == 2024:\n            kept.append(res['documents'][0][i])\n    return kept[:n]",
    "grouped, then the first groups": "def answer(question, c, v, groups):\n    res = c.query(query_embeddings=[v], n_results=30)\n    for doc, meta in zip(res['documents'][0], res['metadatas'][0]):\n        groups[meta['title']].append(doc)\n    out = []\n    for i, (title, docs) in enumerate(groups.items()):\n        if i >= 5:\n            break\n        out.append(docs)\n    return out",
    "query object, taken until enough": "from llama_index.core.vector_stores import VectorStoreQuery\ndef answer(store, v, best, most):\n    res = store.query(VectorStoreQuery(query_embedding=v, similarity_top_k=500))\n    for i in zip(res.ids, res.similarities):\n        best.append(i)\n        if len(best) >= most:\n            break\n    return best",
    "only metadata": "def pictures(prompt, c, v):\n    return c.query(query_embeddings=[v], n_results=30, include=['metadatas', 'distances'])",
    "prompts elsewhere in the file": "def check(index, v):\n    for m in index.query(vector=v, top_k=20, include_metadata=True).matches:\n        print(m.id)\ndef ask(llm, prompt):\n    return llm(prompt)",
    "sampling": "def f(c, m):\n    return c.messages.create(model='c', max_tokens=5, messages=m, top_k=50)",
    "vllm sampling": "from vllm import SamplingParams\np = SamplingParams(top_k=50, max_tokens=9)",
    "sql": "def prompt(session, Doc):\n    return session.query(Doc).limit(100).all()",
    "scroll": "def prompt(client):\n    return client.scroll(collection_name='d', limit=200, with_payload=True)",
    "paged list of an api": "def f(client, messages):\n    return client.beta.threads.messages.list('t', order='asc', limit=100)",
    "search by user of another kind": "def f(api, prompt):\n    return api.search(user_id='u', query=prompt)",
    "list everything": "def f(store, prompt):\n    return store.list(top_k=10000)",
    "topk of torch": "import torch\ndef f(x):\n    return torch.topk(x, k=50)",
    "below": "def f(db, question):\n    return db.similarity_search(question, k=19)",
    "variable": "def f(db, question, k):\n    return db.similarity_search(question, k=k)",
    "a pattern searched with flags": "import re\ndef f(llm, text):\n    found = re.search('a', text, 64)\n    return llm.invoke(f'{found}')",
    "a default that is not left": (
        "def search_docs(question, k=40):\n    return table[embed(question)][:k]\n"
        "def answer(llm, question):\n    docs = search_docs(question, 5)\n    return llm.invoke(f'{docs} {question}')"
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", FOUND.values(), ids=list(FOUND))
def test_found(lint, code: str) -> None:
    """Every retrieval whose many pieces reach a prompt, once."""
    assert [f.rule for f in lint(code, "TG103")] == ["TG103"]


@pytest.mark.parametrize("code", SILENT.values(), ids=list(SILENT))
def test_silent(lint, code: str) -> None:
    """What is reranked, cut down, listed, or no retrieval for a prompt."""
    assert [f.message for f in lint(code, "TG103")] == []


@pytest.mark.parametrize(
    "name", ["joined into a prompt", "llama-index retriever", "a tool's results", "a place of one's own search"]
)
def test_pieces_that_surely_reach_a_prompt_are_reported_by_default(lint, name: str) -> None:
    """A retriever of a framework for prompts, or a result that is seen to get into one."""
    assert [f.rule for f in lint(FOUND[name]) if f.rule == "TG103"] == ["TG103"]
    assert [f for f in lint(FOUND[name], path="tests/test_search.py") if f.rule == "TG103"] == []


@pytest.mark.parametrize("name", ["pinecone", "qdrant", "chroma"])
def test_a_search_with_talk_of_prompts_around_it_has_to_be_asked_for(lint, name: str) -> None:
    """Where the pieces go is not seen: they may be listed for a person."""
    assert [f for f in lint(FOUND[name]) if f.rule == "TG103"] == []


LOOKED_AT = {
    "not used": "def f(db):\n    retriever = db.as_retriever(search_kwargs={'k': 50})\n    return db",
    "returned to an evaluation": (
        "def f(db, question):\n    docs = db.as_retriever(search_kwargs={'k': 50}).invoke(question)\n"
        "    return [d.page_content for d in docs]"
    ),
    "sorted out by what they are marked with": f"def f(db, llm, question, who):\n    found = db.similarity_search(question, k=30)\n    docs = [d for d in found if d.metadata['who'] == who]\n{ASK}",
    "all but some": (
        "def f(db, llm, question):\n    docs = []\n    for d in db.similarity_search(question, k=30):\n"
        f"        if is_new(d):\n            docs.append(d)\n{ASK}"
    ),
    "printed": (
        "def f(index, question):\n    retriever = index.as_retriever(similarity_top_k=40)\n"
        "    for node in retriever.retrieve(question):\n        print(node.score)"
    ),
    "counted": (
        "def f(db, llm, question):\n    sample = db.as_retriever(search_kwargs={'k': 100}).invoke('all')\n"
        "    k = len(sample) if sample else 3\n    docs = db.as_retriever(search_kwargs={'k': k}).invoke(question)\n"
        + ASK
    ),
    "measured": (
        "retriever = db.as_retriever(search_kwargs={'k': 30})\ndef recall(cases):\n    hits = 0\n"
        "    for question, wanted in cases:\n        hits += wanted in [d.id for d in retriever.invoke(question)]\n    print(hits)"
    ),
}


@pytest.mark.parametrize("code", LOOKED_AT.values(), ids=LOOKED_AT)
def test_a_retriever_that_is_only_looked_at_has_to_be_asked_for(lint, code: str) -> None:
    """Its results are printed, counted, compared or sorted out: no prompt is seen to get all of them."""
    assert [f for f in lint(code) if f.rule == "TG103"] == []
    assert [f.rule for f in lint(code, "TG103")] == ["TG103"]
