//! OpenAPI description of the routes.
//!
//! Request bodies are read leniently, so the description names the fields that have an effect and allows any other.

use serde_json::{Value, json};

/// The document, for a program of this version.
pub fn document(version: &str) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mtplx",
            "version": version,
            "description": "Language models with their own multi-token-prediction heads, exactly. Fields that are not listed are ignored; \
                `null` is absent.",
        },
        "security": [{ "bearer": [] }, { "key": [] }, {}],
        "paths": {
            "/v1/chat/completions": generating("OpenAI chat completions", "Chat", "text/event-stream"),
            "/v1/completions": generating("OpenAI completions", "Completion", "text/event-stream"),
            "/v1/responses": generating("OpenAI responses, stateless", "Responses", "text/event-stream"),
            "/v1/messages": generating("Anthropic messages", "Messages", "text/event-stream"),
            "/v1/messages/count_tokens": { "post": {
                "summary": "Number of a prompt's tokens",
                "requestBody": body("Messages"),
                "responses": answers(json!({ "input_tokens": { "type": "integer" } })),
            } },
            "/v1/models": { "get": { "summary": "The model under each of its names", "responses": answers(json!({})) } },
            "/v1/models/{id}": { "get": {
                "summary": "One model",
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }],
                "responses": answers(json!({ "id": { "type": "string" }, "max_model_len": { "type": "integer" } })),
            } },
            "/api/chat": generating("Ollama chat", "Ollama", "application/x-ndjson"),
            "/api/tags": { "get": { "summary": "Ollama's list of models", "responses": answers(json!({})) } },
            "/api/version": { "get": { "summary": "Version", "responses": answers(json!({ "version": { "type": "string" } })) } },
            "/health": { "get": {
                "summary": "State of the engine",
                "security": [{}],
                "responses": {
                    "200": state("Loaded, or idle: the next request loads the model"),
                    "503": state("Loading, or ended"),
                },
            } },
            "/status": { "get": {
                "summary": "The model, its verdict, its settings, and memory by its use; details are null until the model was loaded once",
                "responses": answers(status()),
            } },
            "/": { "get": {
                "summary": "The page; its files are under /page/",
                "security": [{}],
                "responses": { "200": { "description": "The page", "content": { "text/html": { "schema": { "type": "string" } } } } },
            } },
            "/metrics": { "get": {
                "summary": "Counters in the text format of OpenMetrics",
                "responses": { "200": { "description": "Counters", "content": { "application/openmetrics-text": { "schema": { "type": "string" } } } } },
            } },
            "/openapi.json": { "get": { "summary": "This document", "responses": answers(json!({})) } },
        },
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
            "schemas": {
                "Sampling": object(json!({
                    "model": string("Name of the model; the one that is loaded where absent"),
                    "stream": { "type": "boolean", "default": false },
                    "temperature": number(0.0, 100.0),
                    "top_p": number(0.0, 1.0),
                    "top_k": { "type": "integer", "minimum": -1 },
                    "min_p": number(0.0, 1.0),
                    "repetition_penalty": number(0.01, 100.0),
                    "seed": { "type": "integer" },
                    "ignore_eos": { "type": "boolean" },
                    "max_thinking_tokens": { "type": "integer", "minimum": 0, "description": "Tokens of reasoning, behind which it is ended" },
                    "chat_template_kwargs": { "type": "object", "additionalProperties": true },
                    "mtp": { "$ref": "#/components/schemas/Mtp" },
                })),
                "Mtp": object(json!({
                    "enabled": { "type": "boolean" },
                    "depth": { "type": "integer", "minimum": 0, "maximum": 8 },
                    "acceptance": { "type": "string", "enum": ["rejection", "coupled"] },
                    "origins": { "type": "boolean", "description": "Tells of each token how it came about" },
                })),
                "Chat": with("Sampling", json!({
                    "messages": { "type": "array", "items": { "type": "object" }, "minItems": 1 },
                    "tools": { "type": "array", "items": { "type": "object" } },
                    "tool_choice": { "enum": ["auto", "none"] },
                    "parallel_tool_calls": { "type": "boolean" },
                    "max_tokens": { "type": "integer", "minimum": 1 },
                    "max_completion_tokens": { "type": "integer", "minimum": 1 },
                    "stop": { "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "maxItems": 64 }] },
                    "frequency_penalty": number(-2.0, 2.0),
                    "presence_penalty": number(-2.0, 2.0),
                    "logit_bias": { "type": "object", "additionalProperties": number(-100.0, 100.0), "maxProperties": 4096 },
                    "logprobs": { "type": "boolean" },
                    "top_logprobs": { "type": "integer", "minimum": 0, "maximum": 20 },
                    "reasoning_effort": { "type": "string" },
                    "stream_options": object(json!({ "include_usage": { "type": "boolean" } })),
                }), &["messages"]),
                "Completion": with("Sampling", json!({
                    "prompt": { "description": "Text, tokens, or a list of either" },
                    "max_tokens": { "type": "integer", "minimum": 1, "default": 16 },
                    "logprobs": { "type": "integer", "minimum": 0, "maximum": 20 },
                    "stop": { "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "maxItems": 64 }] },
                }), &["prompt"]),
                "Responses": with("Sampling", json!({
                    "input": { "description": "Text, or a list of items" },
                    "instructions": { "type": "string" },
                    "tools": { "type": "array", "items": { "type": "object" } },
                    "max_output_tokens": { "type": "integer", "minimum": 1 },
                    "reasoning": { "type": "object" },
                }), &["input"]),
                "Messages": with("Sampling", json!({
                    "messages": { "type": "array", "items": { "type": "object" }, "minItems": 1 },
                    "system": { "description": "Text, or a list of text blocks" },
                    "tools": { "type": "array", "items": { "type": "object" } },
                    "max_tokens": { "type": "integer", "minimum": 1 },
                    "stop_sequences": { "type": "array", "items": { "type": "string" }, "maxItems": 64 },
                    "thinking": object(json!({
                        "type": { "enum": ["enabled", "adaptive", "disabled"] },
                        "budget_tokens": { "type": "integer" },
                    })),
                }), &["messages"]),
                "Ollama": object(json!({
                    "model": string("Name of the model"),
                    "messages": { "type": "array", "items": { "type": "object" }, "minItems": 1 },
                    "stream": { "type": "boolean", "default": true },
                    "think": { "description": "true, false, or an effort" },
                    "options": { "type": "object", "additionalProperties": true },
                    "mtp": { "$ref": "#/components/schemas/Mtp" },
                })),
            },
        },
    })
}

fn generating(summary: &str, schema: &str, stream: &str) -> Value {
    let any = json!({ "schema": { "type": "object" } });
    json!({ "post": {
        "summary": summary,
        "requestBody": body(schema),
        "responses": {
            "200": { "description": "The answer, whole or streamed", "content": { "application/json": any, stream: { "schema": { "type": "string" } } } },
            "4XX": { "description": "A fault of the request; the message names the field", "content": { "application/json": any } },
            "503": { "description": "The model is not loaded", "content": { "application/json": any } },
        },
    } })
}

fn body(schema: &str) -> Value {
    let reference = format!("#/components/schemas/{schema}");
    json!({ "required": true, "content": { "application/json": { "schema": { "$ref": reference } } } })
}

fn answers(properties: Value) -> Value {
    json!({ "200": { "description": "The answer", "content": { "application/json": { "schema": object(properties) } } } })
}

fn state(description: &str) -> Value {
    let properties = json!({
        "status": { "enum": ["ok", "idle", "loading", "dead"] },
        "model": { "type": "string" },
        "running": { "type": "integer" },
        "queued": { "type": "integer" },
    });
    json!({ "description": description, "content": { "application/json": { "schema": object(properties) } } })
}

fn status() -> Value {
    json!({
        "status": { "enum": ["ok", "idle", "loading", "dead"] },
        "version": { "type": "string" },
        "model": { "type": "string" },
        "running": { "type": "integer" },
        "queued": { "type": "integer" },
        "memory_bytes": { "type": "object", "additionalProperties": { "type": "integer" } },
        "device": object(json!({ "kind": { "enum": ["cpu", "gpu"] }, "name": { "type": ["string", "null"] } })),
        "details": { "type": ["object", "null"], "additionalProperties": true },
    })
}

fn object(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": true })
}

fn with(base: &str, properties: Value, required: &[&str]) -> Value {
    let reference = format!("#/components/schemas/{base}");
    let own = json!({ "type": "object", "properties": properties, "required": required });
    json!({ "allOf": [{ "$ref": reference }, own] })
}

fn string(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn number(minimum: f64, maximum: f64) -> Value {
    json!({ "type": "number", "minimum": minimum, "maximum": maximum })
}
