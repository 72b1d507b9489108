//! The server's model, and what requests to it carry.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::client::{Ask, Client, Target};
use super::fault::{Fault, FaultKind};
use crate::args::{Acceptance, Fields, ServeBenchArgs};

/// Finds the model, and has it answer once.
pub fn reach(target: &mut Target, args: &ServeBenchArgs, stop: &AtomicBool) -> Result<(), Fault> {
    if args.model.is_none() {
        target.model = first_model(&Client::new(Arc::new(target.clone())))?;
    }
    let ask = Ask::of("Hello.".to_owned(), 1);
    match Client::new(Arc::new(target.clone())).ask_until(&ask, stop) {
        Ok(_) => Ok(()),
        Err(fault) if matches!(fault.status, Some(400 | 422)) => {
            // Older servers refuse `stream_options`.
            target.asks_for_usage = false;
            let again = Client::new(Arc::new(target.clone())).ask_until(&ask, stop);
            again.map(drop).map_err(|_| fault)
        }
        Err(fault) => Err(fault),
    }
}

fn first_model(client: &Client) -> Result<String, Fault> {
    let text = client
        .get("/v1/models")
        .map_err(|fault| Fault { message: format!("/v1/models: {}", fault.message), ..fault })?;
    let value: Value = serde_json::from_str(&text).map_err(|_| {
        let beginning: String = text.chars().take(80).collect();
        Fault::new(FaultKind::NoStream, format!("/v1/models: no JSON: {}", beginning.trim()))
    })?;
    let name = value["data"][0]["id"].as_str();
    name.map(str::to_owned)
        .ok_or_else(|| Fault::new(FaultKind::NoStream, "/v1/models: no model is listed; --model names one"))
}

/// Fields that every request carries: those that were asked for.
pub fn fields(args: &ServeBenchArgs) -> Fields {
    let mut fields = Fields::new();
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    // As the decimal that was typed, not as the nearest f32.
    let decimal = |value: f32| value.to_string().parse::<f64>().map_or(Value::Null, Value::from);
    if let Some(temperature) = args.temperature {
        add("temperature", decimal(temperature));
    }
    if let Some(top_p) = args.top_p {
        add("top_p", decimal(top_p));
    }
    if args.ignore_eos {
        add("ignore_eos", true.into());
    }
    let mut mtp = Fields::new();
    if args.no_mtp {
        mtp.insert("enabled".to_owned(), false.into());
    }
    if let Some(depth) = args.mtp_depth {
        mtp.insert("depth".to_owned(), depth.into());
    }
    if let Some(rule) = args.acceptance {
        let name = match rule {
            Acceptance::Rejection => "rejection",
            Acceptance::Coupled => "coupled",
        };
        mtp.insert("acceptance".to_owned(), name.into());
    }
    if !mtp.is_empty() {
        add("mtp", json!(mtp));
    }
    fields.extend(args.extra_body.clone().unwrap_or_default());
    fields
}
