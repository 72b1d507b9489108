"""Streams folded into the whole answers that they stand for, without what differs between two requests."""

import re

# Fields that differ between two answers to one request: names and times.
VARYING = {
    "id",
    "created",
    "created_at",
    "completed_at",
    "call_id",
    "item_id",
    "tool_call_id",
    "ttft_ms",
    "tokens_per_second",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
    "signature",
    "obfuscation",
}


def stable(value):
    """A value without what varies, and without nulls and empty contents, which say the same."""
    if isinstance(value, dict):
        empty = lambda key, item: item is None or (key == "content" and item == "")
        return {k: stable(v) for k, v in value.items() if k not in VARYING and not empty(k, v)}
    if isinstance(value, list):
        return [stable(item) for item in value]
    return value


def merge(into, delta):
    """Adds a chat delta: texts and lists grow, objects merge, list entries with an `index` find each other."""
    for key, value in delta.items():
        if value is None or key == "index":
            continue
        if isinstance(value, str) and key not in ("id", "type", "role", "name"):
            into[key] = into.get(key, "") + value
        elif isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "index" in value[0]:
            entries = into.setdefault(key, [])
            for item in value:
                while len(entries) <= item["index"]:
                    entries.append({})
                merge(entries[item["index"]], item)
        elif isinstance(value, list):
            into[key] = into.get(key, []) + value
        else:
            into[key] = value
    return into


def chat(chunks):
    """The whole answer of a chat stream, given as `dict`s."""
    whole = {"choices": []}
    choices = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found = choices.setdefault(
                choice["index"], {"index": choice["index"], "message": {}, "finish_reason": None}
            )
            merge(found["message"], choice["delta"])
            if choice.get("logprobs"):
                merge(found.setdefault("logprobs", {}), choice["logprobs"])
            found["finish_reason"] = choice["finish_reason"] or found["finish_reason"]
        for key in ("model", "usage", "timings"):
            if chunk.get(key):
                whole[key] = chunk[key]
        if chunk.get("mtp"):
            merge(whole.setdefault("mtp", {}), chunk["mtp"])
    whole["choices"] = [choices[index] for index in sorted(choices)]
    return whole


def completion(chunks):
    """The whole answer of a completions stream, given as `dict`s; of several texts each has timings of its own."""
    whole, choices = {}, {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found = choices.setdefault(choice["index"], {"index": choice["index"], "text": "", "finish_reason": None})
            found["text"] += choice["text"]
            if choice.get("logprobs"):
                merge(found.setdefault("logprobs", {}), choice["logprobs"])
            found["finish_reason"] = choice["finish_reason"] or found["finish_reason"]
            if chunk.get("timings"):
                found["timings"] = chunk["timings"]
        for key in ("model", "usage"):
            if chunk.get(key):
                whole[key] = chunk[key]
    whole["choices"] = [choices[index] for index in sorted(choices)]
    if len(choices) == 1:
        whole["timings"] = whole["choices"][0].pop("timings")
    return whole


def ollama(lines):
    """The whole answer of an Ollama stream, given as `dict`s."""
    whole, message = {}, {}
    for line in lines:
        for key, value in line["message"].items():
            if value is not None:
                message[key] = value if key == "role" else message[key] + value if key in message else value
        whole |= {key: value for key, value in line.items() if value is not None}
    return whole | {"message": message}


def shape(kinds):
    """A list of event kinds as one text, runs of a block's deltas as one: `a b* c`."""
    return re.sub(r"(?<!\S)(?!message_)(\S+[._]delta)( \1)*(?!\S)", r"\1*", " ".join(kinds))
