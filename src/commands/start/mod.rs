//! `mtplx start`: a model is chosen, served as `serve` does, and shown in the browser.

mod browser;
mod choose;
mod ready;

use std::io::{self, Write as _};

use super::serve::{Serving, print_settings, run, settings};
use crate::args::{self, Model, StartArgs};
use crate::error::{Exit, stderr};
use crate::model;

/// Times that an engine that ended is started again in five minutes.
const RESTARTS: usize = 3;

/// Serves, with the settings of `serve` and its file.
pub fn start(typed: &StartArgs) -> anyhow::Result<Exit> {
    let Some(settings) = settings("start", &typed.serve)? else { return Ok(Exit::Usage) };
    let args::Command::Start(args) = settings.command else { return Ok(Exit::Usage) };
    let StartArgs { chosen, no_open, mut serve } = *args;
    if serve.print_config {
        return print_settings(&settings.shown);
    }
    // Memory is the device's.
    model::choose_device(serve.model.device.device)?;
    let named = chosen.or_else(|| settings.names_model.then(|| serve.model.model.clone()));
    serve.model.model = match named {
        Some(model) => model,
        None => match choose::model(&serve)? {
            choose::Choice::Model { model, why } => {
                let name = match &model {
                    Model::Builtin => "the built-in model".to_owned(),
                    Model::Dir(typed) => typed.display().to_string(),
                };
                writeln!(stderr(), "{name}: {why}")?;
                model
            }
            choose::Choice::Interrupted => return Ok(Exit::Interrupted),
        },
    };
    let serving = Serving {
        next_port: true,
        restarts: RESTARTS,
        ready: &|server| {
            // A terminal that is gone keeps nobody from being served.
            let _ = ready::write(&mut io::stdout().lock(), server);
            if !no_open {
                browser::open(server.url);
            }
        },
    };
    run(serve, &serving)
}
