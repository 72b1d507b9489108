//! `mtplx pull`: a model from the hub into the cache.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mtplx_runtime::mlx;
use serde_json::json;

use super::run::on_interrupt;
use crate::args::PullArgs;
use crate::error::{self, Exit, warn};
use crate::hub::{self, Cache, Event, Hub};
use crate::terminal::Transfer;
use mtplx_runtime::artifact::size_shown;

/// What a download under way has to end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Downloads, and prints the snapshot's folder.
pub fn pull(args: &PullArgs) -> anyhow::Result<Exit> {
    let hub = Hub::of_environment(args.token_file.as_deref())?;
    let cache = Cache::of_user()?;
    let interrupt = on_interrupt()?;
    end_soon_after(&interrupt.0, args.repository.to_string());
    let transfer = Transfer::start(format!("pulling {}", args.repository));
    let result = hub::pull(&hub, &cache, &args.repository, &interrupt.0, &|event| match event {
        Event::Planned(bytes) => transfer.expect(bytes),
        Event::Got(bytes) => transfer.advance(bytes),
        Event::Lost(bytes) => transfer.retreat(bytes),
        Event::Damaged { name } => transfer.say(&format!("{name}: damaged in the cache, downloading it again")),
        Event::Finished { name, size, fetched } => {
            let already = if fetched { "" } else { ", here already" };
            transfer.say(&format!("{name} ({}{already})", size_shown(size)));
        }
    });
    drop(transfer);
    let pulled = result?;
    if !pulled.has_tokenizer {
        warn(&format!("{}: the repository has no tokenizer.json: only token ids will do as a prompt", args.repository));
    }
    for name in &pulled.kept {
        let path = pulled.dir.join(name);
        warn(&format!(
            "{}: written on this machine (`mtplx verify` does) and kept; remove it and pull again for the hub's",
            path.display()
        ));
    }
    let mut out = io::stdout().lock();
    if args.json {
        let document = json!({
            "id": args.repository.repository(), "revision": pulled.commit, "bytes": pulled.bytes, "folder": pulled.dir,
            "kept": pulled.kept,
        });
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", pulled.dir.display())?;
    }
    Ok(Exit::Done)
}

/// Ends the program soon after an interrupt, whatever the network is waiting for: a hub that does not answer may hold a
/// request for a minute, and a download that was cut off goes on where it stopped.
fn end_soon_after(interrupt: &Arc<AtomicBool>, repository: String) {
    let interrupt = Arc::clone(interrupt);
    thread::spawn(move || {
        while !interrupt.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(GRACE);
        mlx::exit(error::report(&hub::interrupted(&repository).into()) as u8);
    });
}
