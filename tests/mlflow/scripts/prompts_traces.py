"""Prompts, and a simple trace: they must not break a client, whatever the server keeps of them."""

import logging

from observing import Observed, recent, registered_of

import mlflow

logging.disable(logging.ERROR)
seen = Observed()
client = seen.client
experiment = mlflow.set_experiment("prompts and traces")

prompt = seen.see(
    "register_prompt",
    lambda: [
        p := mlflow.genai.register_prompt("greeting", "Hello {{name}}!", commit_message="first", tags={"a": "b"}),
        p.version,
        p.template,
    ][1:],
)
seen.see("a second version", lambda: mlflow.genai.register_prompt("greeting", "Hi {{name}}, it is {{time}}.").version)
seen.see("load_prompt by number", lambda: mlflow.genai.load_prompt("greeting", version=1).template)
seen.see("load_prompt by uri", lambda: mlflow.genai.load_prompt("prompts:/greeting/2").template)
seen.see("load_prompt of the latest", lambda: mlflow.genai.load_prompt("prompts:/greeting@latest").version)
seen.see("format", lambda: mlflow.genai.load_prompt("prompts:/greeting/1").format(name="you"))
seen.see(
    "prompt alias",
    lambda: [mlflow.genai.set_prompt_alias("greeting", "prod", 1), mlflow.genai.load_prompt("prompts:/greeting@prod").version],
)
seen.see(
    "prompt alias deleted",
    lambda: [mlflow.genai.delete_prompt_alias("greeting", "prod"), mlflow.genai.load_prompt("prompts:/greeting@prod")],
)
seen.see(
    "prompt details",
    lambda: [
        (p := mlflow.genai.load_prompt("greeting", version=1)).commit_message,
        p.tags,
        recent(p.creation_timestamp),
        sorted(p.variables),
    ],
)
seen.see("missing prompt", lambda: mlflow.genai.load_prompt("prompts:/nothing/1"))
seen.see("missing prompt, allowed", lambda: mlflow.genai.load_prompt("prompts:/nothing/1", allow_missing=True))
seen.see("search_prompts", lambda: [p.name for p in mlflow.genai.search_prompts("name LIKE 'greet%'")])
seen.see("prompt tags", lambda: [client.set_prompt_tag("greeting", "k", "v"), client.get_prompt("greeting").tags.get("k")])
seen.see("models do not show prompts", [m.name for m in client.search_registered_models("name = 'greeting'")])
seen.see("a model of the prompt's name", lambda: client.create_registered_model("greeting"))
client.create_registered_model("a plain model")
seen.see("a prompt of a model's name", lambda: mlflow.genai.register_prompt("a plain model", "x"))
seen.see("the prompt as a model", lambda: registered_of(client.get_registered_model("greeting")))
seen.see(
    "chat prompt",
    lambda: mlflow.genai.load_prompt(mlflow.genai.register_prompt("chat", [{"role": "user", "content": "{{q}}"}]).uri).template,
)


@mlflow.trace
def answer(question: str) -> str:
    with mlflow.start_span("inner", span_type="TOOL") as span:
        span.set_inputs({"q": question})
        span.set_outputs({"a": 42})
    return question.upper()


seen.see("a traced function answers", answer("why?"))
seen.see("a second trace", answer("how?"))
seen.see("a failing traced function", lambda: mlflow.trace(lambda: 1 / 0)())
seen.see("flush", lambda: mlflow.flush_trace_async_logging())
with mlflow.start_run(run_name="with a trace") as run:
    seen.see("a trace inside a run", answer("where?"))
mlflow.flush_trace_async_logging()
seen.see("the run of the trace", client.get_run(run.info.run_id).info.status)


def found():
    traces = (
        mlflow.search_traces(locations=[experiment.experiment_id], return_type="list")
        if "locations" in str(__import__("inspect").signature(mlflow.search_traces))
        else mlflow.search_traces(experiment_ids=[experiment.experiment_id], return_type="list")
    )
    return sorted((t.info.state.value, len(t.data.spans), sorted(s.name for s in t.data.spans)) for t in traces)


seen.see("search_traces", found)
seen.done()
