//! `/status`: the model, its verdict, its settings and the memory that it takes, for the page.

use mtplx_engine::settings::{Depth, PromptMode, Settings};
use mtplx_runtime::mlx::{self, Device, DeviceInfo};
use serde_json::{Value, json};

use crate::app::App;
use crate::host::{Model, Status};
use crate::prepare;

/// A state's name, on the wire.
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Idle => "idle",
        Status::Loading => "loading",
        Status::Dead => "dead",
    }
}

/// Bytes of memory by their use.
pub fn memory(app: &App) -> Vec<(&'static str, usize)> {
    let mut memory = mlx::memory_use();
    memory.push(("prefixes", app.host.kept_bytes()));
    memory
}

/// The answer. Facts about the model are null until it was loaded once; nothing is loaded for this.
pub fn status(app: &App) -> Value {
    let (running, queued) = app.host.requests();
    let memory: serde_json::Map<String, Value> =
        memory(app).into_iter().map(|(kind, bytes)| (kind.to_owned(), bytes.into())).collect();
    json!({
        "status": word(app.host.status()),
        "version": app.options.version,
        "model": app.options.name,
        "running": running,
        "queued": queued,
        "memory_bytes": memory,
        "device": device(),
        "details": app.host.model().map(|model| details(app, &model)),
    })
}

fn device() -> Value {
    let kind = match mlx::default_device() {
        Device::Cpu => "cpu",
        Device::Gpu => "gpu",
    };
    let info = DeviceInfo::of_default();
    json!({ "kind": kind, "name": info.name, "memory_bytes": info.memory })
}

fn details(app: &App, model: &Model) -> Value {
    let settings = prepare::model_settings(model, &app.options.defaults).ok();
    json!({
        "label": model.label,
        "architecture": model.info.descriptor.name,
        "context": model.info.model.context,
        "weight_bytes": model.info.model.weight_bytes,
        "verdict": { "name": model.verdict.name(), "text": model.verdict.to_string() },
        "chat": model.chat.is_some(),
        "prompt_mode": settings.as_ref().map(|settings| settings.prompt_mode.value).unwrap_or(PromptMode::Raw),
        "max_depth": settings.as_ref().map(|settings| settings.mtp_depth_max.value).unwrap_or(0),
        "defaults": settings.as_ref().map(defaults),
    })
}

/// Settings of a request that states none.
fn defaults(settings: &Settings) -> Value {
    json!({
        "temperature": shortest(settings.temperature.value),
        "top_p": shortest(settings.top_p.value),
        "top_k": settings.top_k.value,
        "min_p": shortest(settings.min_p.value),
        "repetition_penalty": shortest(settings.repetition_penalty.value),
        "depth": match settings.mtp_depth.value {
            Depth::Auto => Value::from("auto"),
            Depth::Fixed(depth) => depth.min(settings.mtp_depth_max.value).into(),
        },
    })
}

/// The number with the fewest digits that mean this one: 0.6 rather than 0.6000000238.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_were_stated() {
        assert_eq!([0.6, 0.95, 1.0, 0.0].map(shortest), [0.6, 0.95, 1.0, 0.0]);
    }
}
