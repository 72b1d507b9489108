//! Which checkpoints an architecture takes, and what it says of broken ones.

use serde_json::json;

use crate::architecture::{Detection, HeadStatus, LoadOptions, MtpArchitecture, Precision};
use crate::artifact::{Checkpoint, is_head_tensor};
use crate::compatibility::compare;
use crate::testing::fixture::Fixture;
use crate::testing::mutate::{Tensor, rewritten, with_zeros};
use crate::testing::{Fill, TinyCheckpoint};

/// Model types of families with and without draft heads, and some that only look like one.
const MODEL_TYPES: [&str; 23] = [
    "deepseek_v3",
    "deepseek_v32",
    "ernie4_5_moe",
    "exaone_moe",
    "gemma3",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "kimi_k2",
    "llama",
    "longcat_flash",
    "mimo",
    "mimo_v2_flash",
    "minimax",
    "minimax_m2",
    "nemotron_h",
    "qwen2",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_moe",
    "qwen3_next",
    "step3p5",
];

/// It claims its fixtures, heads and all, and no other family's configuration, whatever the tensors are called.
pub fn claims_its_fixtures_only(architecture: &dyn MtpArchitecture, fixtures: &[Fixture]) {
    for fixture in fixtures {
        let detection = architecture.detect(&fixture.checkpoint());
        assert_eq!(detection, Detection::Claimed { head: HeadStatus::Complete }, "{}", fixture.name);
    }
    let own = architecture.descriptor().model_types;
    let others = MODEL_TYPES.iter().copied().filter(|other| !own.contains(other)).map(str::to_owned);
    // Near misses: a match must be exact.
    let near = own.iter().flat_map(|own| [format!("{own}2"), format!("x{own}"), own.to_uppercase()]);
    for model_type in others.chain(near) {
        let dir = TinyCheckpoint::new(json!({"model_type": model_type, "num_hidden_layers": 1}), 0)
            .tensor("model.embed_tokens.weight", &[4, 4], Fill::Normal(1.0))
            .tensor("mtp.fc.weight", &[4, 8], Fill::Normal(1.0))
            .tensor("mtp.layers.0.input_layernorm.weight", &[4], Fill::Normal(1.0))
            .write();
        let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");
        assert_eq!(architecture.detect(&checkpoint), Detection::No, "{model_type}");
    }
}

/// What happens to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is not there.
    Missing,
    /// Its first axis has another length.
    Misshapen,
}

impl Change {
    fn apply(self, mut tensor: Tensor) -> Option<Tensor> {
        let Tensor { shape, bytes, .. } = &mut tensor;
        match self {
            Self::Missing => return None,
            Self::Misshapen if shape[0] > 1 => {
                bytes.truncate(bytes.len() - bytes.len() / shape[0]);
                shape[0] -= 1;
            }
            Self::Misshapen => {
                bytes.extend_from_within(..);
                shape[0] = 2;
            }
        }
        Some(tensor)
    }
}

/// Each tensor that is missing is named: one of the head by detection and by loading, one of the trunk by loading and, if
/// the architecture lists what it reads, before that.
pub fn names_each_missing_tensor(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    names_each(architecture, fixture, Change::Missing);
}

/// Each tensor whose shape does not fit is named likewise.
pub fn names_each_misshapen_tensor(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    names_each(architecture, fixture, Change::Misshapen);
}

/// Copies of the trunk's embedding and head, which some families publish with each MTP layer: no one needs them.
fn is_copy(tensor: &str) -> bool {
    [".embed_tokens.", ".shared_head.head.", ".shared_head_head."].iter().any(|part| tensor.contains(part))
}

/// Everything in the fixture is read, and a bias that is put beside any of its weights is noticed.
pub fn names_each_unread_tensor(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let original = fixture.checkpoint();
    let compared = compare(&original, architecture);
    assert!(compared.faults.is_empty() && compared.strange.is_empty(), "{}: {compared:?}", fixture.name);

    let bias = |name: &str| name.strip_suffix(".weight").map(|module| format!("{module}.bias"));
    let absent = |bias: &String| original.tensor(bias).is_none();
    let added: Vec<String> = original.tensors().filter_map(|(name, _)| bias(name)).filter(absent).collect();
    let dir = with_zeros(&original, &added);
    let faults = compare(&Checkpoint::open(dir.path()).expect("a checkpoint"), architecture).faults;
    for bias in &added {
        let named = faults.iter().filter(|fault| fault.what.contains(&format!("{bias}:"))).count();
        assert_eq!(named, 1, "{}: {bias}: {faults:?}", fixture.name);
    }
    assert_eq!(faults.len(), added.len(), "{}: {faults:?}", fixture.name);
}

fn names_each(architecture: &dyn MtpArchitecture, fixture: &Fixture, change: Change) {
    let original = fixture.checkpoint();
    let layers = original.config().text().size("num_hidden_layers", usize::MAX).ok();
    let options = LoadOptions { precision: Precision::F32, ..LoadOptions::default() };
    for (tensor, _) in original.tensors() {
        let what = format!("{}: {tensor} {change:?}", fixture.name);
        let only = |name: &str, other| if name == tensor { change.apply(other) } else { Some(other) };
        let dir = rewritten(&original, |_| {}, only);
        let checkpoint = Checkpoint::open(dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        // Parts of a packed weight are named by their module.
        let module = tensor.rsplit_once('.').map_or(tensor, |(module, _)| module);
        let head = is_head_tensor(tensor, layers);
        if head && is_copy(tensor) {
            if change == Change::Missing {
                assert_eq!(
                    architecture.detect(&checkpoint),
                    Detection::Claimed { head: HeadStatus::Complete },
                    "{what}"
                );
            }
            continue;
        }
        if head {
            let Detection::Claimed { head: HeadStatus::Incomplete { missing, misshapen } } =
                architecture.detect(&checkpoint)
            else {
                panic!("{what}: the head is not incomplete");
            };
            assert_eq!(missing.len() + misshapen.len(), 1, "{what}: {missing:?} {misshapen:?}");
            assert!(
                missing.iter().chain(&misshapen).all(|named| named.contains(module)),
                "{what}: {missing:?} {misshapen:?}"
            );
        }
        if !head {
            let faults = compare(&checkpoint, architecture).faults;
            assert!(faults.len() == 1 && faults[0].what.contains(module), "{what}: {faults:?}");
        }
        let plan = architecture.plan(&checkpoint).unwrap_or_else(|error| panic!("{what}: {error}"));
        match plan.load(&checkpoint, &options) {
            Ok(_) => panic!("{what}: it loads"),
            Err(error) => assert!(error.to_string().contains(module), "{what}: not named: {error}"),
        }
    }
}
