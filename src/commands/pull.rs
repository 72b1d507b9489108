//! `mtplx pull`: a model from the hub into the cache.

use std::io::{self, Write as _};

use serde_json::json;

use super::run::on_interrupt;
use crate::args::PullArgs;
use crate::disk;
use crate::error::{Exit, warn};
use crate::hub::{self, Cache, Event, Hub};
use crate::terminal::Transfer;

/// Downloads, and prints the snapshot's folder.
pub fn pull(args: &PullArgs) -> anyhow::Result<Exit> {
    let hub = Hub::of_environment(args.token_file.as_deref())?;
    let cache = Cache::of_user()?;
    let interrupt = on_interrupt()?;
    let transfer = Transfer::start(format!("pulling {}", args.repository));
    let result = hub::pull(&hub, &cache, &args.repository, &interrupt.0, &|event| match event {
        Event::Planned(bytes) => transfer.expect(bytes),
        Event::Got(bytes) => transfer.advance(bytes),
        Event::Lost(bytes) => transfer.retreat(bytes),
        Event::Finished { name, size, fetched } => {
            let already = if fetched { "" } else { ", here already" };
            transfer.say(&format!("{name} ({}{already})", disk::shown(size)));
        }
    });
    drop(transfer);
    let pulled = result?;
    if !pulled.has_tokenizer {
        warn(&format!("{}: the repository has no tokenizer.json: only token ids will do as a prompt", args.repository));
    }
    let mut out = io::stdout().lock();
    if args.json {
        let document = json!({
            "id": args.repository.repository(), "revision": pulled.commit, "bytes": pulled.bytes, "folder": pulled.dir,
        });
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", pulled.dir.display())?;
    }
    Ok(Exit::Done)
}
