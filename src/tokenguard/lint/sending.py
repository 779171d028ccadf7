"""What a task sends: whether a call makes a request of a model, itself or through the functions that it calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence, Set

from tokenguard.facts.patterns import lazy
from tokenguard.lint.names import is_double
from tokenguard.lint.pools import in_closed_pool, run_in_executor
from tokenguard.lint.reach import given
from tokenguard.lint.rulebook import File, called
from tokenguard.lint.surface import CLIENTS, EMBEDDINGS, matcher, surface_of
from tokenguard.lint.syntax import Function, below, last_name, spelling, walk

_DEPTH = 7  # helpers between the start of a task and its request
BOUND = lazy(
    r"(?:^|_)sem(?:aphores?)?(?:_|$)|semaphore|(?<!de)limiter(?!ror)|rate_?limit(?!_?(?:error|exc|reached|hit))|throttl|concurrency|concurrent_(?!futures)|[_a-z]concurrent(?!ly)|maxConcurrent|(?:^|_)slots$|bounded|capacity",
    re.IGNORECASE,
)
# What asks a model through a framework, and what it is asked of.
_ASKS = frozenset({"ainvoke", "invoke", "acomplete", "achat", "apredict", "agenerate", "agenerate_content", "acall",
                   "generate_content_async", "abatch", "batch"})  # fmt: skip
# What only models have, whatever the model's object is called; and what a crew or an agent is started with.
_ALWAYS_ASKS = frozenset(
    {
        "kickoff_async",
        "akickoff",
        "acompletion",
        "completion_async",
        "astructured_predict",
        "apredict_and_call",
        "invoke_model",
        "converse",
        "chat_completion",
        "achat_completion",
        "create_chat_completion",
        "send_and_wait",
        "invoke_prompt",
        "a_initiate_chat",
        "a_generate_reply",
        "kickoff",
        "initiate_chat",
        "convert_to_graph_documents",
        "aconvert_to_graph_documents",
        "a_measure",
        "single_turn_ascore",
        "multi_turn_ascore",
        "aevaluate_response",
        "aevaluate_strings",
    }
)
_OF_MODELS = lazy(
    r"a?(?:ask|call|chat|complet(?:e|ion)|create|generate|invoke|predict|prompt|query|structured_\w+"
    r"|(?:get|fetch|create|make)_(?:answer|chat|completion|response|reply))(?:_?(?:async|completion|content|json|messages"
    r"|object|response|structured|text|with\w*))*"
    r"|async_(?:generate|complete|chat|call)"
)
_OF_ONE_MODEL = lazy(r"a?(?:complete|chat|generate|invoke|ask)(?:_\w+)?")  # create and query are a table's, too
# The address of a request that is made without an SDK.
_WAITS = lazy(r"(?:requests|httpx)\.(?:Session\(\)\.|Client\(\)\.)?\w+$")  # a coroutine waits for these
_BODIES = {
    "model": {"messages", "prompt", "input", "contents"},
    "messages": {"temperature", "max_tokens", "max_completion_tokens", "top_p"},
    "contents": {"generationConfig", "generation_config", "systemInstruction", "system_instruction", "safetySettings"},
    "inputs": {"parameters"},
}  # fmt: skip
_POSTS = frozenset({"post", "request", "stream"})
_ADDRESS = lazy(
    r"/chat/completions|/v1/(?:messages|responses|completions|complete)\b|/api/(?:generate|chat)\b|[gG]enerateContent\b"
    r"|/(?:engines|deployments)/.*completions"
)
_MODEL_CALLED = lazy(
    r"langchain.*\.\w*(?:Chat\w*|OpenAI|LLM|Model)\(\)|guidance(?:\.guidance|\.Program)?\(\)"
)  # model(messages)
_CHAIN = lazy(r"(?:^|[._])\w*chain(?:\(.*\))?$", re.IGNORECASE | re.DOTALL)
_OF_CHAINS = frozenset(
    {"run", "arun", "acall", "apply", "aapply", "predict", "apredict", "predict_and_parse", "apredict_and_parse",
     "apply_and_parse", "aapply_and_parse", "agenerate", "combine_documents", "acombine_docs"}
)  # fmt: skip
# What runs a tool, rather than lists the tools that there are.
_TOOL = lazy(r"^(?!_*(?:get|list|load|make|build|bind|format)_)(?:\w*_)?tools?(?:_|$)")
_VENDORS = "llm|openai|azure_openai|anthropic|claude|gpt|chatgpt|gemini|bedrock|openrouter|deepseek|mistral|groq|ollama"
_MODEL = lazy(
    r"(?:^|[._])_?(?:(?:[lv]lm|chat_?model|language_model|(?:chat)?gpt|gemini|claude)"
    r"(?:_client|_service|_provider|_instance|_model|_engine|_backend|_interface|_api|_wrapper|_manager|_gateway|_caller)?"
    rf"|(?:{_VENDORS}|model)_(?:client|service|provider|api|handler|wrapper))$",
    re.IGNORECASE,
)
# What a model has that asks nothing, and a function that is the model: `await self.llm(prompt)`.
_ASKS_NOTHING = lazy(
    r"_?(?:a?close|shutdown|start|stop|setup|init\w*|load\w*|warm\w*|count\w*|tokeni[sz]e\w*|encode|decode|embed\w*|aembed\w*|bind\w*"
    r"|with_\w*|set_\w*|add_\w*|is_\w+|has_\w+|list_\w*|supports\w*|stats|health\w*|check_health|ping|copy|model_\w+|parse\w*|format\w*"
    r"|get_(?!.*(?:response|answer|completion|reply|chat))\w*|\w*tokens?)"
)
# What a model is asked with by a thread: only what says so, as a model's object has other methods, too.
_ASKS_OUT = lazy(
    r"_?(?:\w+_)?a?(?:ask|answer|call|chat|complet(?:e|ions?)|create|generat(?:e|ion)|infer(?:ence)?|invoke|predict|prompt|query|request"
    r"|respond|run|send|extract|summari[sz]e|classify|translate|transcribe|evaluate|analy[sz]e|describe|think|reply)(?:_\w+)?"
)
_PREPARES = lazy(
    r"^_?(?:build|create|generate|make|prepare|prompt)\w*_(?:prompts?|messages|requests?|params|payload|config|template|schema|client|model|id|key|file|dir)$"
)
_IS_MODEL = lazy(r"(?:^|\.)_?llm(?:_(?:call|callable|fn|func|function))?$")
# A client or a model by the class that makes it, whatever the object is called.
_MODEL_MADE = lazy(
    r"(?:^|[.@])\w*(?:LLM|OpenAI|Anthropic|Claude|GPT|Gemini|ChatModel|OpenRouter|Ollama|DeepSeek|Mistral|Groq|Bedrock|Perplexity)"
    r"(?:Async|API)?(?:Client|Provider|Service|Model|Wrapper)?\(\)$"
)
_SAYS_SO = lazy(
    rf"_?(?:a?(?:call|ask|query|prompt|invoke|send)\w*|\w+_(?:with|via|by|using))_(?:{_VENDORS})(?:_\w+)?"
    rf"|_?(?:{_VENDORS})_(?:call|generate|complete|completion|ask|query|chat|invoke)(?:_\w*(?:async|json|text|api|retry))?"
)
_PROMPT = lazy(r"(?:^|_)(?:prompts?|messages)$")
_REQUESTS = lazy(
    r"_?a?(?:send|call|ask|chat|complet|create|generat|request|fetch|query|invoke|prompt|get_(?:chat|complet|response))\w*"
)
# Of a module itself, without a client; and methods that have an asynchronous twin.
_OF_MODULES = lazy(
    r"openai\.(?:ChatCompletion|Completion|chat\.completions|completions|responses)\.create"
    r"|litellm\.(?:completion|responses)|ollama\.(?:chat|generate)"
)
_SYNCHRONOUS = frozenset(
    {"invoke", "predict", "invoke_model", "converse", "chat_completion", "create_chat_completion", "kickoff",
     "initiate_chat", "convert_to_graph_documents"}
)  # fmt: skip
_LISTED = ast.List | ast.ListComp | ast.GeneratorExp | ast.Tuple
_BLOCKING = tuple(f"{path}()" for path in CLIENTS if "Async" not in path)
# What asks for vectors, of what is named for them; and what makes them on this machine.
_EMBEDS = lazy(
    r"a?(?:(?:get|generate|create|make|fetch|compute)_)?(?:text_|query_|chunk_)?embed(?:dings?)?"
    r"(?:_(?:async|query|queries|documents?|texts?|content|chunks?|batch|many|one))*"
)
_EMBEDDER = lazy(
    r"(?:^|[._])\w*embed(?:d(?:ings?|er)(?:_?(?:model|client|service|provider|function|api))?)?$", re.IGNORECASE
)
_EMBEDS_HERE = lazy(
    rb"sentence_transformers|SentenceTransformer|HuggingFace|fastembed|from transformers|import torch|vllm"
)
_EMBEDDING_CALLS = matcher(EMBEDDINGS)
_LIMITERS = lazy(r"(?:asyncio|threading|anyio|trio|aiolimiter)\.(?:\w+\.)?\w*(?:Semaphore|Limiter)\(\)")
_GATEWAY = lazy(r"LLM[A-Z]\w*")
_AGENT = lazy(r"(?:^|[._])agent(?:\(.*\))?$", re.DOTALL)
_RUNNERS = lazy(
    r"pydantic_ai\.(?:.*\.)?Agent\(\)\.run(?:_sync)?|agents\.(?:run\.)?Runner\.run(?:_sync|_streamed)?"
    r"|.*\bcreate_(?:react_)?agent\(\)\.a?invoke"
)
# What asks a model in other frameworks, by its path: graphs, agents, programs, query engines.
_FRAMEWORKS = lazy(
    r"langgraph\..*\.compile\(\)\.(?:a?invoke|a?batch)|langgraph\.prebuilt\.create_react_agent\(\)\.a?batch"
    r"|claude_(?:agent|code)_sdk\.(?:.*ClaudeSDKClient\(\)\.)?query"
    r"|(?:autogen_agentchat|agno|smolagents|agent_framework|strands)\.(?:.*\.)?\w*(?:Agent|Team|Workflow|Chat)\(\)"
    r"\.(?:a?run|run_async|invoke_async|on_messages)"
    r"|dspy\.(?:ChainOfThought|Predict|ReAct|ProgramOfThought|CodeAct|Refine|BestOfN)\(\)(?:\.acall)?"
    r"|llama_index\..*(?:_engine|QueryEngine|ChatEngine|Agent)\(\)\.a?(?:query|chat)|lightrag\.(?:.*\.)?LightRAG\(\)\.a?query"
    r"|huggingface_hub\.(?:.*\.)?(?:Async)?InferenceClient\(\)\.text_generation|semantic_kernel\.(?:.*\.)?Kernel\(\)\.invoke|replicate\.(?:async_)?run"
    r"|openai\.(?:(?:ChatCompletion|Completion|Embedding|Edit|Image)\.a?create|Audio\.a?(?:transcribe|translate))"
    r"|.+\.(?:images\.(?:generate|edit)|audio\.(?:transcriptions|translations|speech)\.create)"
)
_RUNS_AGENTS = frozenset(
    {"run", "arun", "run_async", "run_sync", "run_stream", "chat", "achat", "ask", "execute", "generate"}
)
_AGENT_FRAMEWORKS = lazy(
    rb"(?:import|from) (?:pydantic_ai|agents|agno|phi|autogen\w*|smolagents|crewai|llama_index|langchain\w*|langgraph"
    rb"|strands|google\.adk|semantic_kernel|camel|agent_framework|openai|anthropic|claude_agent_sdk|haystack|metagpt|swarms)\b"
)
_AN_AGENT = lazy(r"(?:agents|pydantic_ai|agno|autogen_agentchat)\.(?:.*\.)?\w*Agent\(\)")
_RUNS_SOMETHING = lazy(r"(?:^|_)(?:run|ask|call|invoke|execute|query|prompt)(?:_|$)|(?:^|_)with_retr")
_ASKED = lazy(
    r"llm|model|chain|agent|chat|crew|runnable|structured|extractor|summari[sz]er|prompt|program|predictor",
    re.IGNORECASE,
)


def sends(file: File, task: ast.expr, *, surely: bool = False) -> bool:
    """Whether a task makes a request, itself or through functions of the project, and none of these has a bound.

    `surely` takes no function's word for it: a call of a known SDK or framework has to be in sight.
    """
    calls = [part for part in walk(task) if isinstance(part, ast.Call)]
    names = [last_name(call.func) for call in calls]
    if any(map(BOUND.search, names)) or any(_bounds(file, call.func) or in_closed_pool(file, call) for call in calls):
        return False
    if any(map(_TOOL.search, names)):
        return False  # the tool calls of one answer are few
    if isinstance(task, ast.Name | ast.Attribute):
        return _runs(file, task, 0, surely)
    if isinstance(task, ast.Call) and _of_a_model(task):
        return True
    return any(
        _asks(file, call, surely)
        or any(_reaches(file, f, 0, surely) for f in (call.func, *call.args))
        or _runs_in_pool(file, call, 0, surely)
        for call in calls
    )


def _runs(file: File, function: ast.expr, depth: int, surely: bool) -> bool:
    """Whether a function that is passed to another one makes a request: a client's own method, or one that calls it."""
    if not isinstance(function, ast.Name | ast.Attribute):
        return False
    path = file.names.path(function)
    surface = surface_of(file.names.base(path) or path)
    is_call = surface is not None and surface.kind == "call" and not surface.needs
    if (
        is_call
        or _asks_by(file, function)
        or _asks_out(file, function)
        or _embeds(file, function)
        or _FRAMEWORKS.fullmatch(_path(file, function))
        or any(_MODEL_CALLED.fullmatch(o.names.path(m)) for o, m in _objects(file, function))
    ):
        return True
    return _reaches(file, function, depth, surely)


def _runs_in_pool(file: File, call: ast.Call, depth: int, surely: bool) -> bool:
    """Whether a call has a pool run a function that makes a request."""
    found = run_in_executor(call)
    return found is not None and _runs(file, found[1], depth, surely)


def _asks(file: File, call: ast.Call, surely: bool) -> bool:
    if "requests" not in file.memory:
        file.memory["requests"] = {id(c) for c, _ in file.generations}
    if id(call) in file.memory["requests"]:
        return not _blocks(file, call)
    func = called(call)
    if runs_agent(file, call) or _asked_for(file, call):
        return True
    if _FRAMEWORKS.fullmatch(_path(file, func)):
        return not _holds_up(file, call)
    if isinstance(file.module.parents.get(call), ast.Await) and (
        _of_a_model(call) or _runs_an_agent(file, func) or _is_handed_an_agent(file, call)
    ):
        return not _bounds(file, func)
    if _asks_by(file, func) or any(_MODEL_CALLED.fullmatch(other.names.path(o)) for other, o in _objects(file, func)):
        return not (last_name(func) in _SYNCHRONOUS and _holds_up(file, call)) and not _bounds(file, func)
    if _asks_out(file, func) or _embeds(file, func):
        return not _holds_up(file, call) and not _bounds(file, func)
    if (
        last_name(func) in _OF_CHAINS
        and _CHAIN.search(_of(func))
        and (not surely or b"langchain" in file.module.source)
    ):
        return not (last_name(func) == "run" and _holds_up(file, call))
    return _posts(file, call) or (not surely and _says_so(file, call, _of(func)))


def _of_a_model(call: ast.Call) -> bool:
    """Whether what is named a model is asked, by whatever method: `llm.extract_claims(text)`, `self._llm(prompt)`."""
    if _IS_MODEL.search(spelling(call.func) or ""):
        return True
    return bool(_MODEL.search(_of(call.func))) and not _ASKS_NOTHING.fullmatch(last_name(call.func))


def _asks_out(file: File, func: ast.expr) -> bool:
    """Whether a model is asked, for a thread to wait for: `self.llm.request(messages)`, `self.llm(prompt)`."""
    if _IS_MODEL.search(spelling(func) or ""):
        return True
    name = last_name(func)
    if not _ASKS_OUT.fullmatch(name) or _ASKS_NOTHING.fullmatch(name) or _PREPARES.search(name):
        return False
    return bool(_MODEL.search(_of(func)) or _MODEL_MADE.search(file.names.path(func).rpartition(".")[0]))


def _embeds(file: File, func: ast.expr) -> bool:
    """Whether an embeddings API is asked, by an SDK or by what is named for it, and not a model on this machine."""
    if _EMBEDDING_CALLS.fullmatch(file.names.path(func)):
        return True
    by_name = _EMBEDS.fullmatch(last_name(func)) and (_EMBEDDER.search(_of(func)) or _MODEL.search(_of(func)))
    return bool(by_name) and not _EMBEDS_HERE.search(file.module.source)


def _runs_an_agent(file: File, func: ast.expr) -> bool:
    """Whether an agent is run, by its name and the method's, in a file of a framework: `await agent.run(text)`."""
    name = last_name(func)
    if name != "arun" and not (name in _RUNS_AGENTS and _AGENT_FRAMEWORKS.search(file.module.source)):
        return False
    return bool(_AGENT.search(_of(func)))


def _is_handed_an_agent(file: File, call: ast.Call) -> bool:
    """Whether a function that says it runs something is handed an agent: `await guarded_run(self.agent, text)`."""
    return bool(_RUNS_SOMETHING.search(last_name(call.func))) and any(
        _AN_AGENT.fullmatch(file.names.path(arg)) for arg in call.args[:2] if isinstance(arg, ast.Name | ast.Attribute)
    )


def runs_agent(file: File, call: ast.Call) -> bool:
    """Whether a call runs an agent of a known framework."""
    return any(_RUNNERS.fullmatch(_path(file, func)) for func in {call.func, called(call)})


def _asked_for(file: File, call: ast.Call) -> bool:
    """Whether a call is told the messages and the model: `send_request(messages=..., model=...)`; or is a model's own.

    A model's own is awaited: `await model.complete(prompt)`.
    """
    name = last_name(call.func)
    if {keyword.arg for keyword in call.keywords} >= {"messages", "model"} and _REQUESTS.fullmatch(name):
        return not _holds_up(file, call) and not _bounds(file, call.func)
    waited = isinstance(file.module.parents.get(call), ast.Await)
    return waited and last_name(getattr(call.func, "value", call)) == "model" and bool(_OF_ONE_MODEL.fullmatch(name))


def _blocks(file: File, call: ast.Call) -> bool:
    """Whether a request of a client that is not asynchronous holds up its event loop: the next waits for it."""
    path = file.names.path(call.func)
    return (path.startswith(_BLOCKING) or bool(_OF_MODULES.fullmatch(path))) and _holds_up(file, call)


def _holds_up(file: File, call: ast.Call) -> bool:
    """Whether a coroutine waits for a call without awaiting it; what is passed on may be awaited elsewhere."""
    if (
        isinstance(file.module.parents.get(call), ast.Await | ast.AsyncFor | ast.Call | _LISTED)
        or called(call) is not call.func
    ):
        return False
    around = (a for a in file.module.ancestors(call) if isinstance(a, ast.Lambda | Function))
    return isinstance(next(around, None), ast.AsyncFunctionDef)


def _asks_by(file: File, func: ast.expr) -> bool:
    """Whether what is called is a method that only a model has, or one of an object that is named a model."""
    name, of, path = last_name(func), _of(func), file.names.path(func)
    if _RUNNERS.fullmatch(path) or name in _ALWAYS_ASKS:
        return True
    asked = name in _ASKS and (_ASKED.search(of) or _MODEL_CALLED.match(path) or _ASKED.search(_made_as(file, func)))
    of_model = _MODEL.search(of) or _MODEL_MADE.search(path.rpartition(".")[0])
    return bool(asked or (of_model and _OF_MODELS.fullmatch(name) and not _PREPARES.search(name)))


def _made_as(file: File, func: ast.expr) -> str:
    """How the object that a method is called of is made, as it is spelled: `chain.with_retry()`, `prompt | llm`."""
    held = func.value if isinstance(func, ast.Attribute) else func
    made = _attribute(file, held)
    made = made.func if isinstance(made, ast.Call) else made
    return ast.unparse(made) if made is not held and isinstance(made, ast.Name | ast.Attribute | ast.BinOp) else ""


def _of(func: ast.expr) -> str:
    """The object that a method is called of, as it is spelled."""
    return ast.unparse(func.value) if isinstance(func, ast.Attribute) else ""


def _posts(file: File, call: ast.Call) -> bool:
    """Whether a call posts to the address of a model's API: `session.post("https://.../chat/completions", ...)`."""
    if last_name(call.func) not in _POSTS:
        return False
    if _WAITS.match(file.names.path(call.func)) and _holds_up(file, call):
        return False
    given = [*call.args[:2], *(k.value for k in call.keywords if k.arg == "url")]
    body = [k.value for k in call.keywords if k.arg in ("json", "data", "content")]
    if any(_is_body(file, node) for node in (*body, *call.args[1:2])):
        return True
    return any(_ADDRESS.search(text) for node in given for text in _spelled(_attribute(file, node)))


def _spelled(node: ast.expr) -> Iterator[str]:
    """The texts in an expression; of an f-string the whole, with something for what is put into it."""
    for part in walk(node):
        if isinstance(part, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "_" for v in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def _is_body(file: File, body: ast.expr) -> bool:
    """Whether a post's body is a request of a model: it names the model, and has a prompt or messages."""
    written = _attribute(file, body)
    if isinstance(written, ast.Call) and last_name(written.func) == "dumps" and written.args:
        return _is_body(file, written.args[0])
    keys = _keys(file, written)
    if isinstance(body, ast.Name) and (found := file.module.scope_at(body).lookup(body.id)):
        keys |= {part.target for part in found[0].names.get(f"{body.id}[]", ())}
    return any(keys >= {key} and keys & others for key, others in _BODIES.items())


def _keys(file: File, body: ast.expr, depth: int = 0) -> set[object]:
    """The keys of a dict that is written out, by `dict(...)`, or in a function of the project that makes it."""
    match body:
        case ast.Dict(keys=keys):
            return {file.constant(key) for key in keys}
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return {keyword.arg for keyword in keywords}
        case ast.Call(func=ast.Name() | ast.Attribute() as func) if depth == 0 and (found := function_of(file, func)):
            other, function = found
            made = (_keys(other, other.written(result), depth + 1) for result in other.module.results(function))
            return set().union(*made)
    return set()


def _says_so(file: File, call: ast.Call, of: str) -> bool:
    """Whether the names of what is called, and of its object, say that it asks a model."""
    name = last_name(call.func)
    if _SAYS_SO.fullmatch(name):
        return not _bounds(file, call.func)
    if isinstance(file.module.parents.get(call), ast.Await | _LISTED) and _is_given_a_prompt(file, call):
        return True
    if not isinstance(call.func, ast.Attribute):
        return False
    if _GATEWAY.fullmatch(last_name(call.func.value)):
        return name.startswith(("acreate", "agenerate", "acomplete", "achat"))
    if name in _RUNS_AGENTS:  # awaited: of a thread or a script, `agent.run()` may be anything
        return bool(_AGENT.search(of)) and isinstance(file.module.parents.get(call), ast.Await | ast.ListComp)
    return False


def _is_given_a_prompt(file: File, call: ast.Call) -> bool:
    """Whether what cannot be followed is given a prompt, or a model with something to ask: `complete(prompt)`."""
    given = [last_name(arg) for arg in call.args[:3]]
    named = [keyword.arg or "" for keyword in call.keywords]
    asked = any(_PROMPT.search(name) for name in (*given, *named)) and _ASKS_OUT.fullmatch(last_name(call.func))
    handed = len(given) + len(named) > 1 and any(_MODEL.search(name) for name in (*given, *named))
    if not (asked or handed) or not isinstance(call.func, ast.Name | ast.Attribute) or run_in_executor(call):
        return False
    found = function_of(file, call.func)
    return found is None or all(map(_says_nothing, found[1].body))


def _path(file: File, func: ast.expr) -> str:
    """The path of a function; of a method of an object that another module of the project makes, that object's."""
    path = file.names.path(func)
    owner, _, method = path.rpartition(".")
    found = file.elsewhere(owner) if owner and isinstance(func, ast.Attribute) else None
    if found is not None and isinstance(found[1], ast.Call):
        return f"{found[0].names.path(found[1])}.{method}"
    return path


def _bounds(file: File, func: ast.expr) -> bool:
    """Whether a function of the project, like `limited(f(x))` or `ask_with_limit(x)`, bounds what it is given."""
    found = function_of(file, func) if isinstance(func, ast.Name | ast.Attribute) else None
    return found is not None and mentions_bound(*found)


def _reaches(file: File, func: ast.expr, depth: int, surely: bool) -> bool:
    """Whether calling `func` makes a request, without a bound on the way."""
    if depth > _DEPTH:
        return False
    found = function_of(file, func) if isinstance(func, ast.Name | ast.Attribute) else None
    if found is None:
        unfollowed: dict[tuple[ast.expr, bool], bool] = file.memory.setdefault("stands for", {})
        if (func, surely) not in unfollowed:
            unfollowed[func, surely] = False  # a circle adds nothing
            unfollowed[func, surely] = any(_runs(file, one, depth + 1, surely) for one in _stands_for(file, func))
        return unfollowed[func, surely]
    other, function = found
    known: dict[tuple[Function, bool], bool] = other.memory.setdefault("reaches", {})
    if (function, surely) not in known:
        known[function, surely] = False  # a circle adds nothing
        inside = [node for node in walk(function) if isinstance(node, ast.Call)]
        known[function, surely] = not mentions_bound(other, function) and any(
            _asks(other, call, surely)
            or _reaches(other, called(call), depth + 1, surely)
            or _runs_in_pool(other, call, depth + 1, surely)
            for call in inside
        )
    return known[function, surely]


def _stands_for(file: File, func: ast.expr) -> Sequence[ast.expr]:
    """The functions that something which is called may be: one of a dict, of `partial(f, x)`, what callers hand in."""
    if isinstance(func, ast.Name):
        objects = _objects(file, func)
        if any(value is not func for _, value in objects):
            return [value for _, value in objects]
    match file.written(func):
        case ast.Subscript(value=held) | ast.Call(func=ast.Attribute(value=held, attr="get")):
            written = _attribute(file, held)
            return written.values if isinstance(written, ast.Dict) else ()
        case ast.Call(args=[first, *_]) as made if file.names.path(made.func) == "functools.partial":
            return (first,)
    return ()


def _attribute(file: File, held: ast.expr) -> ast.expr:
    """What a name or an attribute of `self` was written as, if it was set once."""
    if isinstance(held, ast.Attribute) and isinstance(held.value, ast.Name) and held.value.id in ("self", "cls"):
        owner = file.module.class_of(held)
        bindings = file.module.attributes(owner).get(held.attr, []) if owner is not None else []
        return bindings[0].value or held if len(bindings) == 1 else held
    return file.written(held)


def function_of(file: File, func: ast.Name | ast.Attribute) -> tuple[File, Function] | None:
    """The function of the project that `func` names, with the facts of its file: also a method of an object's class."""
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id in ("self", "cls"):
        owner_class = file.module.class_of(func)
        own = file.module.attributes(owner_class).get(func.attr, []) if owner_class is not None else []
        method = next((binding.node for binding in own if isinstance(binding.node, Function)), None)
        if method is not None:
            return file, _carried_out(file, method)
    found = _definition(file, file.names.path(func))
    if found is None and isinstance(func, ast.Attribute):
        for other, node in _objects(file, func.value):
            owner = _made_by(other, node)
            if owner is not None and isinstance(owner[1], ast.ClassDef):
                bindings = owner[0].module.attributes(owner[1]).get(func.attr, [])
                found = next(((owner[0], b.node) for b in bindings if isinstance(b.node, Function)), None)
    if found is None or not isinstance(found[1], Function):
        return None
    return found[0], _carried_out(found[0], found[1])


def _carried_out(file: File, method: Function) -> Function:
    """A method; where a class only announces it, that of the first class of the file that is derived from it."""
    owner = file.module.class_of(method)
    if owner is None or not all(map(_says_nothing, method.body)):
        return method
    for name, derived in file.module.definitions.items():
        if isinstance(derived, ast.ClassDef) and derived is not owner and not is_double(name):
            bases = (file.names.definition(file.names.path(base)) for base in derived.bases)
            own = (node for node in derived.body if isinstance(node, Function) and node.name == method.name)
            if owner in bases and (found := next(own, None)) is not None:
                return found
    return method


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is one of a method that only announces: a docstring, `...`, `pass`, a raise."""
    return isinstance(statement, ast.Pass | ast.Raise) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _objects(file: File, value: ast.expr) -> list[tuple[File, ast.expr]]:
    """The expressions that give an object: itself, or for a parameter of unknown type what calls in this file give."""
    found = file.module.scope_at(value).lookup(value.id) if isinstance(value, ast.Name) else None
    if found and found[1][0].kind == "param" and file.names.path(value).startswith("?"):
        function = found[0].node
        assert isinstance(value, ast.Name)
        if isinstance(function, Function):
            return [(file, argument) for argument in given(file, function, value.id)]
    return [(file, value)]


def _made_by(file: File, value: ast.expr) -> tuple[File, ast.AST] | None:
    """The class of an object, through what makes it: a call of another module, or a function with an annotation."""
    owner = _definition(file, file.names.path(value))
    if owner is not None and isinstance(owner[1], ast.Call):  # an object that another module makes
        owner = _definition(owner[0], owner[0].names.path(owner[1]))
    if owner is not None and isinstance(owner[1], Function) and owner[1].returns is not None:
        owner = _definition(owner[0], owner[0].names.path(owner[1].returns))
    return owner


def _definition(file: File, path: str) -> tuple[File, ast.AST] | None:
    """What the project defines as `path`; of an object, its class."""
    path = path.removesuffix("()")
    definition = file.names.definition(path)
    return (file, definition) if definition is not None else file.elsewhere(path)


def mentions_bound(file: File, function: Function, around: Sequence[ast.AST] = ()) -> bool:
    """Whether a function enters a semaphore or a limiter, or speaks of one, or of a number of requests at once.

    What is entered `around` the start of the tasks is entered once, and left before they are done: it bounds nothing.
    """
    entered = {
        spelled
        for place in around
        for node in file.module.ancestors(place)
        if isinstance(node, ast.With | ast.AsyncWith)
        for item in node.items
        if (spelled := spelling(item.context_expr))
    }
    if entered:
        return _mentions_bound(file, function, entered)
    known: dict[Function, bool] = file.memory.setdefault("bounds", {})
    if function not in known:
        known[function] = _mentions_bound(file, function, frozenset())
    return known[function]


def _mentions_bound(file: File, function: Function, entered: Set[str]) -> bool:
    for node in _spoken(function, entered):
        held = node.context_expr if isinstance(node, ast.withitem) else None
        if held is not None and _LIMITERS.match(file.names.path(held)):
            return True
        name = node.arg if isinstance(node, ast.keyword) else last_name(node)
        if (name and BOUND.search(name)) or in_closed_pool(file, node) or _takes_turns(node):
            return True
    return False


def _spoken(function: Function, entered: Set[str]) -> Iterator[ast.AST]:
    """The nodes of a function, without annotations, and without what makes or enters one of the names `entered`."""
    pending: list[ast.AST] = [function]
    while pending:
        node = pending.pop()
        match node:
            case ast.arg():
                continue
            case ast.Assign(targets=[target]) if spelling(target) in entered:
                continue
            case ast.withitem(context_expr=held) if spelling(held) in entered:
                continue
        yield node
        pending.extend(below(node))


def _takes_turns(node: ast.AST) -> bool:
    """Whether a call waits for its turn: `self.wait()`, `bucket.acquire()`."""
    match node:
        case ast.Call(func=ast.Attribute(attr="acquire")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr="wait"), args=[], keywords=[]):
            return True
    return False
