//! Loads a model and streams the text behind a prompt: `cargo run --example generate -- MODEL PROMPT`.

use std::io::{self, Write as _};

use mtplx_engine::settings::Overrides;
use mtplx_engine::{Engine, Event, LoadSpec};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt] = &arguments[..] else { anyhow::bail!("two arguments were expected: MODEL PROMPT") };
    let spec = LoadSpec::open(model, &mtplx::registry())?;
    let engine = Engine::load(spec, &mut |_| {})?;
    let settings = Overrides { max_tokens: Some(64), ..Overrides::default() };
    let request = engine.request(engine.prompt(prompt)?, &settings)?;
    for event in engine.submit(request)? {
        if let Event::Text(piece) = event? {
            print!("{}", piece.text);
            io::stdout().flush()?;
        }
    }
    println!();
    Ok(())
}
