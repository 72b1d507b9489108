//! Names that were retired, with those that took their place. Whole identifiers, each where it had its meaning: other words that are
//! spelled alike stay free.

use super::code::code_only;
use super::file::{Complaint, File};

/// A retired name.
struct Retired {
    /// The identifier; `Type::name` for what is named by its type, `.name(` for a method that is called.
    name: &'static str,
    /// Paths in which it is refused begin so.
    places: &'static [&'static str],
    now: &'static str,
}

const ANYWHERE: &[&str] = &[""];
const LIBRARIES: &[&str] = &["runtime/", "crates/", "arch-", "examples/", "xtask/template/"];
const LAYERS: &[&str] = &["runtime/src/nn/", "runtime/src/kernels/", "runtime/src/quant/", "arch-"];
const CACHES: &[&str] = &["runtime/src/cache/", "runtime/src/nn/", "arch-"];
const VERIFY: &[&str] = &["runtime/src/verify/"];
const ARTIFACT: &[&str] = &["crates/artifact/", "crates/engine/", "src/"];
const HUB: &[&str] = &["src/hub/"];

const RETIRED: &[Retired] = &[
    Retired { name: "Law", places: LIBRARIES, now: "TargetDistribution or TokenDistribution" },
    Retired { name: "Draws", places: LIBRARIES, now: "RoundNoise" },
    Retired { name: "otherwise", places: &["runtime/src/sampling/", "crates/speculation/"], now: "recovered" },
    Retired { name: "Addend", places: ANYWHERE, now: "BlockOutput" },
    Retired { name: "Normed", places: LAYERS, now: "NormedRows" },
    Retired { name: "Divisor", places: LAYERS, now: "RmsDivisor" },
    Retired { name: "begun", places: LAYERS, now: "pending_array" },
    Retired { name: "await_array", places: ANYWHERE, now: "wait" },
    Retired { name: "Tiled", places: LAYERS, now: "PackedTiles" },
    Retired { name: "lay_out", places: LAYERS, now: "repack" },
    Retired { name: "laid_out", places: LAYERS, now: "repacked" },
    Retired { name: ".room(", places: CACHES, now: "reserve" },
    Retired { name: "fn room", places: CACHES, now: "reserve" },
    Retired { name: ".fill(", places: &["runtime/src/cache/", "runtime/src/nn/"], now: "append_written" },
    Retired { name: "set_pending", places: CACHES, now: "append_written" },
    Retired { name: ".snapshot(", places: &["runtime/src/cache/", "runtime/src/nn/"], now: "freeze" },
    Retired { name: "Session", places: LIBRARIES, now: "Sequence" },
    Retired { name: "Beside", places: LAYERS, now: "pending rows of a KvCache" },
    Retired { name: "Gate", places: &["runtime/src/kernels/", "runtime/src/verify/"], now: "SelfCheck or GateResult" },
    Retired { name: "Bench", places: VERIFY, now: "Verification" },
    Retired { name: "Walk", places: VERIFY, now: "MartingaleTest" },
    Retired { name: "Watch", places: VERIFY, now: "ProgressReporter" },
    Retired { name: "Counted", places: VERIFY, now: "CountingModel" },
    Retired { name: "Away", places: VERIFY, now: "Detached" },
    Retired { name: "Checkpoint::look", places: ANYWHERE, now: "Checkpoint::open_lenient" },
    Retired { name: "Opened", places: ANYWHERE, now: "AssessedModel, WeightFile or SourceCheckpoint" },
    Retired { name: "Opening", places: ARTIFACT, now: "CheckpointBuilder" },
    Retired { name: "Witness", places: ANYWHERE, now: "AssessOptions" },
    Retired { name: "ModelSays", places: ANYWHERE, now: "ModelDefaults" },
    Retired { name: "TextSide", places: ANYWHERE, now: "TextAssets" },
    Retired { name: "Place", places: LIBRARIES, now: "TensorRole, HeadPrefix, OutputRange or FieldPath" },
    Retired { name: "Facts", places: LIBRARIES, now: "CheckpointFacts" },
    Retired { name: "Subject", places: ARTIFACT, now: "Area" },
    Retired { name: "Job", places: &["runtime/src/forge/"], now: "ForgeJob" },
    Retired { name: "Work", places: &["runtime/src/forge/"], now: "WorkDir" },
    Retired { name: "Produce", places: ANYWHERE, now: "TensorSource" },
    Retired { name: "Parts", places: &["runtime/src/forge/"], now: "PackedRows" },
    Retired { name: "Control", places: &["runtime/src/forge/"], now: "RunControl" },
    Retired { name: "Home", places: &["src/"], now: "StateDirs" },
    Retired { name: "Trouble", places: HUB, now: "RequestError" },
    Retired { name: "Again", places: HUB, now: "Retry" },
    Retired { name: "Patience", places: HUB, now: "RetryPolicy" },
    Retired { name: "Halted", places: HUB, now: "Cancelled" },
    Retired { name: "foremost", places: ANYWHERE, now: "most_frequent" },
    Retired { name: "Sourced", places: ANYWHERE, now: "Setting" },
    Retired { name: "DraftHead", places: ANYWHERE, now: "Drafter" },
    Retired { name: "HeadPlan", places: ANYWHERE, now: "DrafterPlan" },
    Retired { name: "NextNHead", places: ANYWHERE, now: "MtpHead" },
    Retired { name: "NextNLayer", places: ANYWHERE, now: "MtpLayer" },
    Retired { name: "NextNModule", places: ANYWHERE, now: "MtpLayer" },
    Retired { name: "MtpModule", places: ANYWHERE, now: "MtpLayer" },
    Retired { name: "PlannedArchitecture", places: ANYWHERE, now: "MtpArchitecture" },
    Retired { name: "forge_rules", places: ANYWHERE, now: "ModelPlan::conversion" },
    Retired { name: "norms_plus_one", places: ANYWHERE, now: "DecoderPlan::norms, DrafterPlan::norms" },
];

/// Complaints about retired names in the code of a file.
pub fn check(file: &File) -> Vec<Complaint> {
    // The list itself.
    if !file.path.ends_with(".rs") || file.path.starts_with("xtask/src/tidy/") {
        return Vec::new();
    }
    let Some(text) = &file.text else { return Vec::new() };
    let refused: Vec<&Retired> =
        RETIRED.iter().filter(|retired| retired.places.iter().any(|place| file.path.starts_with(place))).collect();
    let code = code_only(text);
    let lines = code.lines().enumerate();
    let of_line = |(index, line): (usize, &str)| {
        let found = refused.iter().find(|retired| names(line, retired.name))?;
        let message = format!("`{}` was retired: it is {} now", found.name, found.now);
        Some(Complaint::new(file, index + 1, message))
    };
    lines.filter_map(of_line).collect()
}

/// True where `name` stands in the line as a whole identifier. A bare name is none behind `::`, where it is a variant or another path's.
fn names(line: &str, name: &str) -> bool {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let qualified = !name.contains("::") && before.ends_with("::") && !before.ends_with(" ::");
        let begins = name.starts_with('.') || !joins(before.chars().next_back());
        let ends = name.ends_with('(') || !joins(after.chars().next());
        !qualified && begins && ends
    })
}

#[cfg(test)]
mod tests {
    use super::super::file::sample;
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        check(&sample(path, text)).len()
    }

    #[test]
    fn retired_names_are_refused_where_they_had_their_meaning() {
        assert_eq!(complaints("runtime/src/sampling/device.rs", "pub enum Law {}\nfn f(law: &Law) {}\n"), 2);
        assert_eq!(complaints("runtime/src/forge/run.rs", "struct Job<'a>(&'a str);\n"), 1);
        assert_eq!(complaints("src/hub/download.rs", "struct Job<'a>(&'a str);\n"), 0);
        assert_eq!(complaints("src/engine.rs", "Checkpoint::look(dir)\n"), 1);
        assert_eq!(complaints("runtime/src/nn/attention.rs", "let k = cache.room(1)?;\nlet room = f(room);\n"), 1);
    }

    #[test]
    fn other_identifiers_variants_comments_and_strings_are_free() {
        let text = "// Law\nlet s = \"Law\"; LawOfNumbers; Other::Input; jinja::Input\n";
        assert_eq!(complaints("runtime/src/nn/a.rs", text), 0);
    }
}
