//! The server with a script in the place of a model: `cargo run --example scripted -- SCRIPT.json [PORT [KEY]]`.
//!
//! For agents whose prompts do not fit the built-in model, and for tests that need one certain answer.

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use mtplx_engine::testing::script::Script;
use mtplx_engine::{Engine, LoadSpec};
use mtplx_server::{Guard, Host, Key, LogEvent, ServerOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The model whose tokenizer is used.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/builtin");

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().context("SCRIPT.json was expected")?;
    let port: u16 = arguments.get(1).map_or(Ok(8000), |port| port.parse())?;
    let script: Script = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let script = Mutex::new(script);
    let host = Host::new(Box::new(move || {
        let mut spec = LoadSpec::open(MODEL, &mtplx::registry())?;
        let script = script.lock().map(|script| script.clone()).unwrap_or_default();
        if let Some(contract) = spec.model.assessment.contract.as_mut().filter(|_| script.template.is_some()) {
            // A script with a template speaks for a chat model, whatever the one whose tokenizer is used was made for.
            contract.extra.insert("recommended_prompt_mode".to_owned(), "chat".into());
        }
        spec.text.template = script.chat_template(&spec.text.tokenizer)?.or(spec.text.template);
        spec.script = Some(script);
        Engine::load(spec, &mut |_| {})
    }));
    let keys = arguments.get(2).map(|key| Key::new(key)).into_iter().collect();
    let mut options = ServerOptions::new("scripted", env!("CARGO_PKG_VERSION"));
    options.guard = Guard { keys, ..Guard::default() };
    options.aliases = vec!["local-model".to_owned()];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        println!("listening on http://{}", listener.local_addr()?);
        host.load().await?;
        let (_stop, stopped) = watch::channel(false);
        let log = Arc::new(|event: &LogEvent| eprintln!("{event:?}"));
        mtplx_server::serve(vec![listener], options, host, log, stopped).await;
        Ok(())
    })
}
