//! Carries a plan out: every output in pieces of rows, by several threads, each piece written to its place as it is done.
//!
//! Headers say where everything goes, so pieces have no order among them and memory holds one piece a thread.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::{io, thread};

use super::plan::{Output, Plan};
use super::source::{PackedRows, TensorSource};
use super::work::{WorkDir, free_space, parent};
use super::{ForgeError, layout};
use crate::architecture::{Detection, HeadStatus, MtpArchitecture};
use crate::artifact::Checkpoint;
use crate::compatibility::compare;

/// Numbers in a piece, at least a row: 8 MB in f32.
const PIECE: usize = 1 << 21;
/// Most threads: beyond these the disk is what waits.
const MAX_THREADS: usize = 8;

/// What the caller decides and is told.
pub struct RunControl<'a> {
    /// Stops the work at the next piece once it is true.
    pub cancel: &'a AtomicBool,
    /// Told how many bytes of how many are written.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Bytes free where a folder is or will be.
    pub free_space: &'a dyn Fn(&Path) -> io::Result<u64>,
}

impl<'a> RunControl<'a> {
    /// With the disk's own word on its free space.
    pub fn new(cancel: &'a AtomicBool, progress: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        Self { cancel, progress, free_space: &free_space }
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// Bytes of the artifact's weight files.
    pub bytes: u64,
    /// Of these, bytes that an earlier, interrupted run had finished.
    pub resumed: u64,
    /// Weight files.
    pub files: usize,
}

/// What is to be written, from what.
pub(super) struct Contents<'a> {
    pub architecture: &'a dyn MtpArchitecture,
    pub plan: &'a Plan,
    /// Small files, by name.
    pub documents: &'a [(String, Vec<u8>)],
    /// The hash that makes two runs the same work.
    pub fingerprint: &'a str,
    pub source: &'a dyn TensorSource,
}

/// Makes the artifact, or goes on where an interrupted run stopped.
pub(super) fn run(contents: &Contents<'_>, out: &Path, control: &RunControl<'_>) -> Result<Outcome, ForgeError> {
    let mut work = WorkDir::open(out, contents.fingerprint.to_owned())?;
    match fill(contents, &mut work, out, control) {
        Ok(outcome) => work.publish().map(|()| outcome),
        Err(error) => {
            work.abandon();
            Err(error)
        }
    }
}

/// Fills the work folder with everything that the artifact consists of.
fn fill(
    contents: &Contents<'_>,
    work: &mut WorkDir,
    out: &Path,
    control: &RunControl<'_>,
) -> Result<Outcome, ForgeError> {
    let plan = contents.plan;
    let total = plan.bytes();
    let done: Vec<bool> = plan.files.iter().map(|file| work.is_done(&file.name, file.size)).collect();
    let sizes = plan.files.iter().zip(&done);
    let resumed = sizes.filter(|(_, done)| **done).map(|(file, _)| file.size).sum::<u64>();
    // What an interrupted run left of a file takes room that its successor will have.
    for (file, _) in plan.files.iter().zip(&done).filter(|(_, done)| !**done) {
        work.discard(&file.name)?;
    }
    room(total - resumed, out, control)?;

    let written = AtomicU64::new(resumed);
    for (file, _) in plan.files.iter().zip(&done).filter(|(_, done)| !**done) {
        let path = work.path(&file.name);
        let wrote = |bytes| {
            let so_far = written.fetch_add(bytes, Ordering::Relaxed) + bytes;
            (control.progress)(so_far.min(total), total);
        };
        let file_written = write_file(contents, file, &path, control, wrote).and_then(|()| work.finish(&file.name));
        // Half a file is of no use to anyone, and may be what fills the disk.
        file_written.inspect_err(|_| drop(work.discard(&file.name)))?;
    }
    for (name, bytes) in contents.documents {
        work.write(name, bytes)?;
    }
    check(contents.architecture, &work.path(""))?;
    Ok(Outcome { bytes: total, resumed, files: plan.files.len() })
}

/// What is kept free beside the artifact: its small files, and some air.
const MARGIN: u64 = 64 << 20;

fn room(needed: u64, out: &Path, control: &RunControl<'_>) -> Result<(), ForgeError> {
    let dir = parent(out);
    let free = (control.free_space)(&dir).map_err(ForgeError::io(&dir))?;
    let needed = needed + MARGIN;
    if free >= needed {
        return Ok(());
    }
    Err(ForgeError::DiskFull { dir: dir.display().to_string().into(), free, needed })
}

/// The finished folder is what the architecture calls complete.
fn check(architecture: &dyn MtpArchitecture, dir: &Path) -> Result<(), ForgeError> {
    let checkpoint = Checkpoint::open(dir)?;
    let found = match architecture.detect(&checkpoint) {
        Detection::Claimed { head: HeadStatus::Complete } => match compare(&checkpoint, architecture).faults.first() {
            None => return Ok(()),
            Some(fault) => fault.what.clone(),
        },
        found => format!("{found:?}"),
    };
    Err(ForgeError::unsupported(
        format!("the architecture's rules do not make what its loader reads: {found}"),
        "this is a mistake in the architecture's crate: report it",
    ))
}

/// Where an output of a file goes: each of its tensors' place and bytes a row.
struct OutputRange<'a> {
    output: &'a Output,
    tensors: Vec<(u64, u64)>,
    rows_a_piece: usize,
}

/// Writes one file's header and data, and waits for the disk.
fn write_file(
    contents: &Contents<'_>,
    file: &layout::File,
    path: &Path,
    control: &RunControl<'_>,
    wrote: impl Fn(u64) + Sync,
) -> Result<(), ForgeError> {
    let io = |error| ForgeError::io(path)(error);
    let handle = File::create(path).map_err(io)?;
    handle.set_len(file.size).and_then(|()| handle.write_all_at(&file.header, 0)).map_err(io)?;
    let places = places(contents, file);
    let pieces: Vec<(&OutputRange<'_>, Range<usize>)> = places
        .iter()
        .flat_map(|place| {
            let rows = place.output.rows();
            let starts = (0..rows).step_by(place.rows_a_piece);
            starts.map(move |start| (place, start..rows.min(start + place.rows_a_piece)))
        })
        .collect();

    let (next, fault) = (AtomicUsize::new(0), Mutex::new(None));
    let one = |parts: &mut PackedRows, (place, rows): &(&OutputRange<'_>, Range<usize>)| -> Result<(), ForgeError> {
        [&mut parts.weight, &mut parts.scales, &mut parts.biases].into_iter().for_each(Vec::clear);
        contents.source.rows(place.output, rows.clone(), parts)?;
        for (bytes, (at, row)) in [&parts.weight, &parts.scales, &parts.biases].into_iter().zip(&place.tensors) {
            handle.write_all_at(bytes, at + rows.start as u64 * row).map_err(io)?;
            wrote(bytes.len() as u64);
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut parts = PackedRows::default();
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let stop = control.cancel.load(Ordering::Relaxed);
                    let result = if stop { Err(ForgeError::Interrupted) } else { one(&mut parts, piece) };
                    if let Err(error) = result {
                        // The others find nothing more to do.
                        next.store(pieces.len(), Ordering::Relaxed);
                        fault.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    if let Some(error) = fault.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        return Err(error);
    }
    handle.sync_all().map_err(io)
}

/// The outputs of a file, with their places.
fn places<'a>(contents: &Contents<'a>, file: &layout::File) -> Vec<OutputRange<'a>> {
    let offsets: std::collections::HashMap<&str, u64> =
        file.tensors.iter().map(|(tensor, at)| (tensor.name.as_str(), *at)).collect();
    let place = |output: &'a Output| {
        let rows = output.rows().max(1) as u64;
        let tensors = output.tensors();
        let found = tensors.iter().map(|tensor| Some((*offsets.get(tensor.name.as_str())?, tensor.bytes() / rows)));
        let rows_a_piece = (PIECE / output.width().max(1)).max(1);
        Some(OutputRange { output, tensors: found.collect::<Option<_>>()?, rows_a_piece })
    };
    contents.plan.outputs.iter().filter_map(place).collect()
}
