"""Replies of the scripted server, by words of the prompt. Output begins inside `<think>`, as the template has it."""

THOUGHT = "The user wants to know how drafts keep the text exact. I explain the two steps, then show the rule in code."

EXPLANATION = """## Drafts without a difference

A model with *multi-token prediction* heads drafts several tokens, then checks them **in one pass**:

1. The heads propose tokens, one for each depth.
2. The trunk computes its own distribution for every place.
3. A draft is kept with probability `min(1, p/q)`; at the first that is not, a token is drawn from what is left.

```rust
/// True where the draft is accepted.
fn accepts(p: f32, q: f32, draw: f32) -> bool {
    draw * q < p
}
```

| depth | accepted |
| :--- | ---: |
| 1 | 92 % |
| 2 | 81 % |

The result has the law of plain decoding, so nothing but the speed changes.
"""


def call(name, **parameters):
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items())
    return f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"


# Everything that a page must not run or load; `HOST` is a host that nothing may be asked of.
HOST = "evil.invalid"
ATTACKS = f"""Text before.

<script>window.pwned = "script"</script>
<style>body {{ display: none }}</style>
<img src=x onerror="window.pwned = 'onerror'">
<svg onload="window.pwned = 'svg'"><script>window.pwned = 'svg script'</script></svg>
<iframe src="https://{HOST}/frame" srcdoc="<script>parent.pwned = 'frame'</script>"></iframe>
<a href="javascript:window.pwned='raw link'">raw</a>
<details open ontoggle="window.pwned = 'toggle'">x</details>
<form action="https://{HOST}/form"><button autofocus onfocus="window.pwned='focus'">b</button></form>
<base href="https://{HOST}/"><meta http-equiv="refresh" content="0;url=https://{HOST}/"><link rel=stylesheet href="https://{HOST}/a.css">

[script link](javascript:window.pwned='link') [coded](&#106;avascript:window.pwned='coded') [tab](java\tscript:window.pwned='tab')
[data link](data:text/html,<script>window.pwned='data'</script>) [vb](vbscript:msgbox) [file](file:///etc/passwd)
[quoted](https://example.org/" onmouseover="window.pwned='quote')
![picture](https://{HOST}/picture.png) ![x](data:image/svg+xml,<svg/onload=alert(1)>) ![alt" onerror="window.pwned='alt'](https://{HOST}/b.png)
[good](https://example.org/page) <https://example.org/auto> [mail](mailto:a@example.org)

```html
<script>window.pwned = "code"</script><img src=x onerror="window.pwned='code'">
```

```"><script>window.pwned='language'</script>
code
```

| <img src=x onerror="window.pwned='cell'"> | b |
| :-: | -: |
| <script>window.pwned='cell'</script> | c |

Text behind.
"""

EVIL = "<img src=x onerror=\"window.pwned='plain'\"><script>window.pwned='plain'</script>"

REPLIES = [
    {"when": ["second question"], "text": "Again.\n</think>\n\nThe second answer."},
    {"when": ["break off"], "text": "Well.\n</think>\n\nThis answer goes well until the engine", "fails": "error"},
    {"when": ["attack me"], "text": f"{EVIL}\n</think>\n\n{ATTACKS}"},
    {"when": ["attack by call"], "text": f"Hm.\n</think>\n\n{call('read_file', path=EVIL)}"},
    {"when": ["[result read_file] 42 lines"], "text": "I have it.\n</think>\n\nThe file has 42 lines."},
    {"when": ["weather in Lisbon"], "text": f"I need the weather there.\n</think>\n\nI look it up.\n\n{call('get_weather', city='Lisbon', days=3)}"},
    {"when": ["read the file"], "text": f"I read it.\n</think>\n\n{call('read_file', path='src/main.rs')}"},
    {"when": ["a long story"], "text": "I tell one.\n</think>\n\n" + " ".join(f"Sentence {n} of the story goes on." for n in range(400))},
    {"when": ["without thinking", "<think>\n\n</think>\n\n"], "text": "No thoughts, just the answer."},
    {"when": ["emoji"], "text": "Smile.\n</think>\n\nCrab 🦀, wörld, 日本語."},
    {"when": ["multi-token"], "text": f"{THOUGHT}\n</think>\n\n{EXPLANATION}"},
    {"text": "A greeting.\n</think>\n\nHello! Ask me anything."},
]

WEATHER_TOOL = """[{"type": "function", "function": {"name": "get_weather", "description": "Weather of the next days",
 "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}},
 {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}}]"""
