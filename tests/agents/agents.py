#!/usr/bin/env python3
"""Real coding agents against the server with a script in the model's place.

    cargo build --release --example scripted
    tests/agents/agents.py --cache FOLDER --scripted target/release/examples/scripted [AGENT...]

Each agent reads notes.txt and changes a line of it through its own tools. One line an agent; exit status 1 if any failed.
The cache keeps the installed agents (npm, venv); Open WebUI takes 7 GB and runs only if it is named.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TEMPLATE = HERE.parent / "scripted" / "template.jinja"
MODEL, KEY = "local-model", "local-key"
TASK = "Read the file notes.txt, then change the line 'colour: red' to 'colour: blue' in it."
BEFORE = "title: notes\ncolour: red\nsize: 3\n"
AFTER = "title: notes\ncolour: blue\nsize: 3\n"


class Run:
    """What an agent is told: address, context window, and its private folders."""

    def __init__(self, program, url, context, home, work):
        self.program, self.url, self.context, self.home, self.work = program, url, context, home, work

    def write(self, path, text):
        path = self.home / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)


def aider(run):
    limits = {"max_input_tokens": run.context, "litellm_provider": "openai", "mode": "chat"}
    run.write(".aider.model.metadata.json", json.dumps({f"openai/{MODEL}": limits}))
    environment = {"OPENAI_API_BASE": f"{run.url}/v1", "OPENAI_API_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    quiet = ["--no-analytics", "--no-check-update", "--no-show-release-notes", "--no-gitignore", "--no-git"]
    flags = ["--edit-format", "diff", "--yes-always", "--no-pretty", "--message", TASK, "notes.txt"]
    return environment, [[run.program, "--model", f"openai/{MODEL}", *quiet, *flags]]


def claude_code(run):
    environment = {
        "ANTHROPIC_BASE_URL": run.url,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_MODEL": MODEL,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(run.context),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return environment, [[run.program, "-p", TASK, "--permission-mode", "acceptEdits"]]


def cline(run):
    off = {"telemetryOptOut": True, "autoUpdateEnabled": False}
    run.write(".cline/data/settings/global-settings.json", json.dumps(off))
    environment = {"CLINE_SESSION_BACKEND_MODE": "local", "CLINE_NO_AUTO_UPDATE": "1"}
    sign_in = [run.program, "auth", "openai-compatible", "-k", KEY, "-m", MODEL, "-b", f"{run.url}/v1"]
    # The command asks for no context window; it stands in the file that the command writes.
    window = f"""
import json, pathlib
file = pathlib.Path.home() / ".cline/data/settings/providers.json"
settings = json.loads(file.read_text())
settings["providers"]["openai-compatible"]["settings"]["contextWindow"] = {run.context}
file.write_text(json.dumps(settings))
"""
    task = [run.program, "-P", "openai-compatible", TASK]
    return environment, [sign_in, [sys.executable, "-c", window], task]


def codex(run):
    run.write(
        ".codex/config.toml",
        f"""model = "{MODEL}"
model_provider = "mtplx"
model_context_window = {run.context}
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.mtplx]
name = "mtplx"
base_url = "{run.url}/v1"
env_key = "MTPLX_KEY"
wire_api = "responses"
""",
    )
    flags = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    return {"MTPLX_KEY": KEY}, [[run.program, "exec", *flags, TASK]]


def continue_cli(run):
    config = run.write(
        ".continue/config.yaml",
        f"""name: mtplx
version: 1.0.0
schema: v1
models:
  - {{name: {MODEL}, model: {MODEL}, provider: openai, apiBase: "{run.url}/v1", apiKey: {KEY},
     capabilities: [tool_use], roles: [chat, edit, apply], defaultCompletionOptions: {{contextLength: {run.context}}}}}
""",
    )
    return {"CONTINUE_TELEMETRY_ENABLED": "0"}, [[run.program, "--config", config, "--auto", "-p", TASK]]


def open_webui(run):
    environment = {
        "OPENAI_API_BASE_URL": f"{run.url}/v1",
        "OPENAI_API_KEY": KEY,
        "DATA_DIR": run.write("data/.keep", "").removesuffix("/.keep"),
        "WEBUI_SECRET_KEY": "local",
        "WEBUI_AUTH": "False",
        "ENABLE_OLLAMA_API": "False",
        "OFFLINE_MODE": "True",
        "HF_HUB_OFFLINE": "1",
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ANONYMIZED_TELEMETRY": "False",
        "DO_NOT_TRACK": "true",
        "SCARF_NO_ANALYTICS": "true",
    }
    return environment, [[sys.executable, str(HERE / "webui.py"), run.program, MODEL, TASK]]


def opencode(run):
    model = {"limit": {"context": run.context, "output": 32000}}
    options = {"baseURL": f"{run.url}/v1", "apiKey": KEY}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {MODEL: model}}
    config = {"provider": {"mtplx": provider}, "model": f"mtplx/{MODEL}", "autoupdate": False, "share": "disabled"}
    run.write(".config/opencode/opencode.json", json.dumps(config))
    off = ["MODELS_FETCH", "LSP_DOWNLOAD", "AUTOUPDATE"]
    environment = {f"OPENCODE_DISABLE_{name}": "1" for name in off}
    return environment, [[run.program, "run", "--auto", TASK]]


Agent = collections.namedtuple("Agent", "registry package version program commands")
AGENTS = {
    "claude-code": Agent("npm", "@anthropic-ai/claude-code", "2.1.332", "claude", claude_code),
    "codex": Agent("npm", "@openai/codex", "0.171.0", "codex", codex),
    "opencode": Agent("npm", "opencode-ai", "1.18.33", "opencode", opencode),
    "cline": Agent("npm", "cline", "3.0.65", "cline", cline),
    "continue": Agent("npm", "@continuedev/cli", "1.5.47", "cn", continue_cli),
    "aider": Agent("pip", "aider-chat", "0.86.2", "aider", aider),
    "open-webui": Agent("pip", "open-webui", "0.12.4", "open-webui", open_webui),
}
ON_REQUEST = {"open-webui"}


def install(name, agent, cache):
    """The agent's program, installed if this version is not there."""
    folder = cache / name
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "install.log").open("a")
    if agent.registry == "npm":
        manifest = folder / "node_modules" / agent.package / "package.json"
        if not manifest.exists() or json.loads(manifest.read_text())["version"] != agent.version:
            (folder / "package.json").write_text('{"private": true}')
            command = ["npm", "install", "--no-fund", "--no-audit", f"{agent.package}@{agent.version}"]
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=True)
        return str(folder / "node_modules" / ".bin" / agent.program)
    venv = folder / "venv"
    installed = f"lib/python*/site-packages/{agent.package.replace('-', '_')}-{agent.version}.dist-info"
    if not any(venv.glob(installed)):
        subprocess.run([sys.executable, "-m", "venv", venv], stdout=log, stderr=log, check=True)
        command = [venv / "bin" / "pip", "install", f"{agent.package}=={agent.version}"]
        subprocess.run(command, stdout=log, stderr=log, check=True)
    return str(venv / "bin" / agent.program)


def script(name, work, extra):
    """The agent's script with the template and its working directory in it."""
    script = json.loads((HERE / "scripts" / f"{name}.json").read_text())
    script = {**script, "template": TEMPLATE.read_text(), **extra}
    return json.loads(json.dumps(script).replace("@CWD@", str(work)))


def requests(log):
    """Requests of the server's log, counted by method, path and status."""
    pattern = r'method: "(\w+)", path: "([^"?]*)[^"]*", status: (\d+)'
    return collections.Counter(re.findall(pattern, log))


def stop(process):
    """Ends a process and what it started."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def converse(commands, environment, run, log, limit):
    """Runs commands in the working directory; the last one's exit status."""
    status = None
    for command in commands:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=run.work, env=environment, start_new_session=True, **pipes)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = "out of time"
        stop(process)
        if status != 0:
            break
    return status


def attempt(name, agent, options):
    program = install(name, agent, options.cache)
    begun = time.monotonic()
    # Codex wants a home that is not below the folder of temporary files; agents look for their settings in the folders above
    # the working directory, so that lies there.
    home = pathlib.Path(tempfile.mkdtemp(prefix="home-", dir=options.cache)).resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="agent-")).resolve()
    notes = work / "notes.txt"
    notes.write_text(BEFORE)
    file = home / "script.json"
    content = script(name, work, options.script)
    file.write_text(json.dumps(content))
    server_log, agent_log = home / "server.log", home / "agent.log"
    with server_log.open("w") as errors, agent_log.open("w") as output:
        command = [options.scripted, file, "0", KEY]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        try:
            url = server.stdout.readline().split()[-1]
            run = Run(program, url, options.window or content["context"], home, work)
            environment, commands = agent.commands(run)
            private = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1"}
            status = converse(commands, {**private, **environment}, run, output, options.limit)
        finally:
            stop(server)
    log = server_log.read_text()
    passed = status == 0 and notes.read_text() == AFTER
    counts = [f"{method} {path} {code} x{count}" for (method, path, code), count in requests(log).items()]
    seconds = time.monotonic() - begun
    print(name, agent.version, "pass" if passed else "fail", f"{seconds:.0f} s", ", ".join(counts), flush=True)
    if not passed:
        print(f"exit status {status}; notes.txt: {notes.read_text()!r}; logs in {home}")
        print(agent_log.read_text()[-2000:])
    if passed and not options.keep:
        shutil.rmtree(home)
        shutil.rmtree(work)
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="of " + ", ".join(AGENTS))
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="folder of the installed agents and their homes")
    parser.add_argument("--scripted", type=lambda path: pathlib.Path(path).resolve(), required=True, help="the server")
    parser.add_argument("--limit", type=float, default=180, help="seconds for a task")
    parser.add_argument("--keep", action="store_true", help="keep homes and logs of what passed, too")
    parser.add_argument("--script", type=json.loads, default={}, help='fields of the script, as {"round_ms": 100}')
    parser.add_argument("--window", type=int, help="context window that the agent is told, if not the script's")
    options = parser.parse_args()
    options.cache = options.cache.resolve()
    if unknown := set(options.agents) - set(AGENTS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(AGENTS)}")
    names = options.agents or [name for name in AGENTS if name not in ON_REQUEST]
    # All are tried, whatever comes of one.
    passed = [attempt(name, AGENTS[name], options) for name in names]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
