//! `mtplx models --known`: the models that the program knows, and what fits this machine.

use std::io::{self, Write as _};

use mtplx_engine::Room;
use mtplx_runtime::artifact::size_shown;
use mtplx_runtime::mlx;
use serde::Serialize;

use crate::args::ModelsArgs;
use crate::error::{Exit, stderr};
use crate::hub::Cache;
use crate::known::{self, CONTEXTS, Computed, KnownModel};
use crate::model;

/// A model, as `--json` prints it. Sizes in bytes.
#[derive(Serialize)]
struct Row {
    id: String,
    source: String,
    #[serde(rename = "use")]
    purpose: String,
    shape: String,
    policy: String,
    /// Commit and bytes of the weight files; `null` where the hub was not asked.
    revision: Option<String>,
    bytes: Option<u64>,
    computed: Computed,
    /// Contexts of `computed.memory`, and the device that it is for.
    contexts: [usize; CONTEXTS.len()],
    device: &'static str,
    in_cache: bool,
}

/// Lists them.
pub(super) fn known(args: &ModelsArgs) -> anyhow::Result<Exit> {
    model::choose_device(args.device.device)?;
    let rows = known::list()?.into_iter().map(row).collect::<anyhow::Result<Vec<Row>>>()?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        table(&mut out, &rows)?;
    }
    out.flush()?;
    if !args.json {
        let room = Room::of_default().map_or(String::new(), |room| format!(", which has {}", size_shown(room.bytes())));
        let device = mlx::default_device().name();
        writeln!(
            stderr(),
            "~: computed from shape and packing; memory is what the {device} takes{room}. `mtplx pull MODEL` downloads one"
        )?;
    }
    Ok(Exit::Done)
}

fn row(model: KnownModel) -> anyhow::Result<Row> {
    let computed = model.computed()?;
    // A folder that cannot be read holds nothing that could be run.
    let in_cache =
        Cache::of_user().is_ok_and(|cache| matches!(cache.repository(&model.repository).find(None), Ok(Ok(_))));
    Ok(Row {
        id: model.repository.to_string(),
        source: model.source,
        purpose: model.purpose,
        shape: model.shape,
        policy: model.policy,
        revision: model.revision,
        bytes: model.bytes,
        computed,
        contexts: CONTEXTS,
        device: mlx::default_device().name(),
        in_cache,
    })
}

fn table(out: &mut impl io::Write, rows: &[Row]) -> io::Result<()> {
    let cells = |row: &Row| {
        let [short, long] = row.computed.memory.map(|bytes| format!("~{}", size_shown(bytes)));
        let size = row.bytes.map_or_else(|| format!("~{}", size_shown(row.computed.bytes)), size_shown);
        let fits = match row.computed.fits {
            None => "?",
            Some([_, true]) => "fits",
            Some([true, false]) => "fits at 4k",
            Some([false, _]) => "does not fit",
        };
        [row.id.clone(), size, short, long, fits.to_owned(), if row.in_cache { "here" } else { "" }.to_owned()]
    };
    let head = ["model", "weights", "at 4k", "at 32k tokens", "", ""].map(str::to_owned);
    let lines: Vec<_> = [head].into_iter().chain(rows.iter().map(cells)).collect();
    let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
    let [id, size, short, long, fits, _] = [0, 1, 2, 3, 4, 5].map(width);
    for [a, b, c, d, e, f] in &lines {
        let line = format!("{a:id$}  {b:>size$}  {c:>short$}  {d:>long$}  {e:fits$}  {f}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
