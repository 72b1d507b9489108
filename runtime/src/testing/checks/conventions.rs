//! The hidden states that a contract has the draft head fed, in place of the family's own.

use serde_json::json;

use crate::architecture::MtpArchitecture;
use crate::artifact::CONTRACT;
use crate::parity::{self, Reference};
use crate::testing::fixture::Fixture;
use crate::testing::mutate::rewritten;
use crate::testing::tiny;

/// Largest absolute difference from the golden tensors.
const GOLDEN: f64 = 2e-4;

/// The field of the contract, and the golden tensors of what it changes (`mtp_alt.NAME.*`).
const CONVENTIONS: [(&str, &str); 2] = [("base_hidden_variant", "prenorm_in"), ("hidden_variant", "prenorm_recycle")];

/// A contract that has the trunk's, or the head's own, hidden state fed from before the norm gets what the golden tensors
/// expect of that, where the fixture has them.
pub fn contracts_choose_the_hidden_states(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let Some(golden) = fixture.golden() else { return };
    for (field, name) in CONVENTIONS {
        let Some(expected) = reference(&golden, name) else { continue };
        let reference = Reference::parse(&expected).expect("a reference");
        let dir = rewritten(&fixture.checkpoint(), |_| {}, |_, tensor| Some(tensor));
        for (variant, agrees) in [("post_norm", false), ("pre_norm", true)] {
            let contract = json!({"mtp_contract": {field: variant}}).to_string();
            std::fs::write(dir.path().join(CONTRACT), contract).expect("a contract");
            let model = tiny::load(architecture, dir.path());
            let report = parity::compare(&model, &reference).unwrap_or_else(|e| panic!("{}: {e}", fixture.name));
            assert!(!report.compared.is_empty(), "{}: nothing was compared", fixture.name);
            let worst = report.worst().0;
            assert_eq!(worst <= GOLDEN, agrees, "{}: {field} {variant}: off by {worst}", fixture.name);
        }
    }
}

/// The prompt, and what the head makes of it under a convention, called what the head's own are called.
fn reference(golden: &Reference<'_>, name: &str) -> Option<Vec<u8>> {
    use safetensors::tensor::{Dtype, TensorView};

    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let ids = |ids: &[i32]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = Vec::new();
    for part in ["input_ids", "mtp.next_ids"] {
        let list = golden.ids(part, i32::MAX as usize).expect("ids")?;
        tensors.push((part, Dtype::I32, vec![list.len()], ids(&list)));
    }
    // What the head recycles matters from the second draft on: the rows are the same.
    let rows = golden.floats(&format!("mtp_alt.{name}.logits")).expect("floats");
    if let Some(logits) = rows.filter(|_| name == "prenorm_in") {
        tensors.push(("mtp.logits", Dtype::F32, logits.shape, bytes(&logits.values)));
    }
    // Drafts of one layer again and again: a head of several drafts otherwise.
    let chain = golden.floats(&format!("mtp_alt.{name}.chain_logits")).expect("floats");
    if let Some(chain) = chain.filter(|_| !golden.has("mtp_multi.chain_logits")) {
        let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0) as i32;
        let drafts: Vec<i32> = chain.values.chunks(chain.shape[1]).map(best).collect();
        tensors.push(("mtp.chain_ids", Dtype::I32, vec![drafts.len()], ids(&drafts)));
        tensors.push(("mtp.chain_logits", Dtype::F32, chain.shape, bytes(&chain.values)));
    }
    if tensors.len() == 2 {
        return None;
    }
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, TensorView::new(*dtype, shape.clone(), data).expect("as many values as the shape says"))
    });
    Some(safetensors::serialize(views, None).expect("a file"))
}
