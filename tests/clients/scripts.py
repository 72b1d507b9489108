"""Replies of the scripted server, and the tools that they call.

A prompt that holds `case:NAME` gets the reply NAME. Output begins inside `<think>`, as the template has it.
"""

SCHEMAS = {
    "read_file": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["path"],
    },
    "every_type": {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "whole": {"type": "integer"},
            "real": {"type": "number"},
            "flag": {"type": "boolean"},
            "list": {"type": "array", "items": {"type": "integer"}},
            "object": {"type": "object"},
            "either": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
            "wrong": {"type": "integer"},
        },
    },
}


def call(name, **parameters):
    """A call as Qwen3.5 writes it."""
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items())
    return f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"


THOUGHT = "The user greets me."
GREETING = "Hello, wörld 🦀! How are you today?"
LONG_THOUGHT = " ".join(f"step {number} of my long plan," for number in range(60))
READ = call("read_file", path="src/main.rs", limit=5)
READ_TWO = READ + "\n" + call("read_file", path="Cargo.toml")
MALFORMED = "<tool_call>\n<functio read_file>\n{oops\n</tool_call> and then some"
EVERY_TYPE = call(
    "every_type",
    text="5",
    whole=5,
    real=2.5,
    flag="true",
    list="[1, 2]",
    object='{"a": {"b": null}}',
    either="null",
    wrong="five",
)
EVERY_VALUE = {
    "text": "5",
    "whole": 5,
    "real": 2.5,
    "flag": True,
    "list": [1, 2],
    "object": {"a": {"b": None}},
    "either": None,
    "wrong": "five",
}
# A value that holds its own end marker.
AWKWARD = 'fn main() {\n    println!("</parameter> \\ \t ü 🦀");\n}\n'
PATCH = '*** Begin Patch\n*** Update File: a.rs\n-old "x"\n+new\n*** End Patch'

TEXTS = {
    "greeting": f"{THOUGHT}\n</think>\n\n{GREETING}",
    "ponder": f"{LONG_THOUGHT}\n</think>\n\nForty-two.",
    "one": f"I read it.\n</think>\n\n{READ}",
    "two": f"I read both.\n</think>\n\n{READ_TWO}",
    "say-and-call": f"I read it.\n</think>\n\nI will read it now.\n{READ}",
    "malformed": f"Hm.\n</think>\n\n{MALFORMED}",
    "early": f"I read it at once.\n{READ}",
    "types": f"All types.\n</think>\n\n{EVERY_TYPE}",
    "awkward": f"A value.\n</think>\n\n{call('read_file', path=AWKWARD)}",
    "long-call": f"Long.\n</think>\n\n{call('read_file', path='directory/' * 200)}",
    "patch": f"I patch.\n</think>\n\n{call('apply_patch', input=PATCH)}",
    "stat": f"I ask.\n</think>\n\n{call('files__stat', path='a.rs')}",
}

REPLIES = [
    {"when": ["case:error"], "text": "Well.\n</think>\n\nHalf of an answer", "fails": "error"},
    {"when": ["case:panic"], "text": "Well.\n</think>\n\nHalf of an answer", "fails": "panic"},
    {"when": ["case:task ", "[result", "fn main() {}"], "text": "Seen.\n</think>\n\nThe file has a main function."},
    {"when": ["case:task "], "text": TEXTS["one"]},
    # A prompt without thinking ends behind the block that is closed.
    {"when": ["case:greeting", "<think>\n\n</think>\n\n"], "text": GREETING},
    *({"when": [f"case:{name} "], "text": text} for name, text in TEXTS.items()),
    {"text": "No.\n</think>\n\nNo case was named."},
]


def ask(name):
    """A user's message that gets the reply `name`."""
    return f"case:{name} please"


def messages(name):
    return [{"role": "user", "content": ask(name)}]


def chat_tools(*names):
    """Tools as the chat route takes them."""
    names = names or ("read_file", "every_type")
    return [
        {"type": "function", "function": {"name": name, "description": f"tool {name}", "parameters": SCHEMAS[name]}}
        for name in names
    ]


def response_tools(*names):
    """Tools as the responses route takes them."""
    return [{"type": "function", **tool["function"], "strict": False} for tool in chat_tools(*names)]


def anthropic_tools(*names):
    """Tools as the messages route takes them."""
    functions = [tool["function"] for tool in chat_tools(*names)]
    return [{"name": f["name"], "description": f["description"], "input_schema": f["parameters"]} for f in functions]
