//! `mtplx models`: what the cache holds that this binary could run.

mod known;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;
use mtplx_engine::read_text;
use mtplx_runtime::artifact::{ArtifactError, Checkpoint, size_shown};
use mtplx_runtime::text::TextAssets;
use serde::Serialize;

use crate::args::ModelsArgs;
use crate::error::{Exit, stderr};
use crate::hub::{Cache, Repository, Snapshot};
use crate::model;

/// One revision of a model.
#[derive(Serialize)]
struct Row {
    id: String,
    /// The commit.
    revision: String,
    /// Branches and tags that mean it.
    names: Vec<String>,
    /// Bytes, contents that it shares with other revisions included.
    bytes: u64,
    folder: PathBuf,
    /// A verdict's name, or `damaged`.
    verdict: &'static str,
    architecture: Option<&'static str>,
    /// Whether it has weights and is not for another program.
    #[serde(skip)]
    runnable: bool,
    /// Why it does not run as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Most tokenizers that are built at a time: each takes ten times its file's size.
const MAX_THREADS: usize = 4;
const INCOMPATIBLE: &str = "incompatible";

/// Lists them.
pub fn models(args: &ModelsArgs) -> anyhow::Result<Exit> {
    if args.known {
        return known::known(args);
    }
    let cache = Cache::of_user()?;
    let mut models = Vec::new();
    for repository in cache.repositories()? {
        let repository = Rc::new(repository);
        for snapshot in repository.snapshots()? {
            models.push((Rc::clone(&repository), snapshot));
        }
    }
    let folders: Vec<&Path> = models.iter().map(|(_, snapshot)| snapshot.dir.as_path()).collect();
    let opened = open(&folders);
    let rows = models.iter().zip(opened).map(|((repository, snapshot), opened)| judge(repository, snapshot, opened));
    let mut rows = rows.collect::<anyhow::Result<Vec<Row>>>()?;
    let all = rows.len();
    rows.retain(|row| args.all || row.runnable);
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        table(&mut out, &rows)?;
    }
    out.flush()?;
    let left_out = all - rows.len();
    if all == 0 {
        writeln!(stderr(), "no models in {}", cache.root().display())?;
    } else if left_out > 0 {
        writeln!(stderr(), "{left_out} more that this binary does not run: --all lists them")?;
    }
    Ok(Exit::Done)
}

/// A model that was opened, and what is wrong with its text side.
type ListedModel = Result<(Checkpoint, TextAssets), ArtifactError>;

/// Opens each: a large tokenizer takes a second to build, so several are built at a time, and none is kept.
fn open(folders: &[&Path]) -> Vec<ListedModel> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let one = |folder: &Path| {
        let checkpoint = Checkpoint::open_lenient(folder)?;
        let mut text = read_text(&checkpoint);
        (text.tokenizer, text.template) = (None, None);
        Ok((checkpoint, text))
    };
    let (next, opened) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(folder) = folders.get(index) else { break };
                    let result = one(folder);
                    opened.lock().unwrap_or_else(PoisonError::into_inner).insert(index, result);
                }
            });
        }
    });
    opened.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// By headers, configuration and text files; weights are hashed only where evidence for them depends on it, and once.
fn judge(repository: &Repository, snapshot: &Snapshot, opened: ListedModel) -> anyhow::Result<Row> {
    let (verdict, architecture, why, weights) = match opened {
        Err(error) => ("damaged", None, Some(error.to_string()), false),
        Ok((checkpoint, text)) => {
            let assessment = model::assess(&checkpoint, &text, false);
            let name = assessment.verdict.name();
            let why = (name != "verified").then(|| assessment.verdict.to_string());
            (name, assessment.claim, why, checkpoint.has_weights())
        }
    };
    Ok(Row {
        id: repository.id.to_string(),
        revision: snapshot.commit.clone(),
        names: repository.names_of(&snapshot.commit),
        bytes: snapshot.size().with_context(|| repository.id.to_string())?,
        folder: snapshot.dir.clone(),
        verdict,
        architecture,
        runnable: weights && verdict != INCOMPATIBLE,
        why,
    })
}

fn table(out: &mut impl io::Write, rows: &[Row]) -> io::Result<()> {
    let cells = |row: &Row| {
        let names = if row.names.is_empty() { String::new() } else { format!(" ({})", row.names.join(", ")) };
        [
            row.id.clone(),
            format!("{}{names}", &row.revision[..12]),
            size_shown(row.bytes),
            row.verdict.to_owned(),
            row.architecture.unwrap_or("-").to_owned(),
        ]
    };
    let rows: Vec<([String; 5], Option<&str>)> = rows
        .iter()
        .map(|row| (cells(row), row.why.as_deref().filter(|_| matches!(row.verdict, "damaged" | INCOMPATIBLE))))
        .collect();
    let width = |i: usize| rows.iter().map(|(cells, _)| cells[i].chars().count()).max().unwrap_or(0);
    let [id, revision, size, verdict, _] = [0, 1, 2, 3, 4].map(width);
    for ([a, b, c, d, e], why) in &rows {
        writeln!(out, "{a:id$}  {b:revision$}  {c:>size$}  {d:verdict$}  {e}")?;
        if let Some(why) = why {
            // A file's own words may be in there: nothing that a terminal would obey.
            let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            writeln!(out, "  {why}")?;
        }
    }
    Ok(())
}
