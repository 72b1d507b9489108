//! How the draft head's norms are stored: golden values under every way to say it, and not under the wrong one.

use std::path::Path;

use mtplx_runtime::parity::{self, Reference};
use mtplx_runtime::testing::mutate::{Tensor, rewritten};
use mtplx_runtime::testing::{fixture::Fixture, tiny};
use serde_json::{Value, json};

use mtplx_arch_qwen3_next::Qwen3Next;

/// The largest difference from the golden values when the head's norms are stored less `offset` and `norm_encoding` is
/// stated as `stated`, if at all.
fn difference(fixture: &Fixture, offset: f32, stated: Option<&str>) -> f64 {
    let config = |config: &mut Value| {
        if let Some(stated) = stated {
            config["mtplx_mtp_quantization"]["norm_encoding"] = json!(stated);
        }
    };
    let is_head_norm = |name: &str| name.starts_with("mtp.") && name.contains("norm") && name.ends_with(".weight");
    let dir = rewritten(&fixture.checkpoint(), config, |name, tensor| {
        if !is_head_norm(name) {
            return Some(tensor);
        }
        let values = tensor.bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes) - offset);
        Some(Tensor { bytes: values.flat_map(f32::to_le_bytes).collect(), ..tensor })
    });
    let model = tiny::load(&Qwen3Next, dir.path());
    let golden: Reference<'_> = fixture.golden().expect("golden values");
    parity::compare(&model, &golden).expect("a comparison").worst().0
}

fn sidecar() -> Fixture {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/qwen3_5_dense");
    let fixtures = Fixture::all(&folder);
    fixtures.into_iter().find(|fixture| fixture.name.ends_with("mlx_q4g32")).expect("a head in a file of its own")
}

#[test]
fn every_encoding_gives_the_golden_values() {
    let sidecar = sidecar();
    for (offset, stated) in [
        (0.0, None),
        (1.0, None),
        (0.0, Some("absolute")),
        (1.0, Some("delta")),
        (1.0, Some("delta_plus_one")),
        (1.0, Some("mlx_delta")),
    ] {
        let difference = difference(&sidecar, offset, stated);
        assert!(difference <= 2e-4, "stored less {offset}, stated as {stated:?}: off by {difference}");
    }
}

#[test]
fn the_wrong_encoding_does_not() {
    let sidecar = sidecar();
    for (offset, stated) in [(0.0, "delta"), (1.0, "absolute")] {
        let difference = difference(&sidecar, offset, Some(stated));
        assert!(difference > 0.04, "stored less {offset}, stated as {stated}: off by {difference} only");
    }
}
