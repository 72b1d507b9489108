//! The same rows, computed in different ways.

use crate::Array;
use crate::architecture::MtpArchitecture;
use crate::cache::LayerCache;
use crate::parity::{self, Tolerance};
use crate::testing::Rng;
use crate::testing::fixture::Fixture;
use crate::testing::host::{self, token_array};
use crate::testing::state::{self, assert_close, assert_same_state};

/// Largest absolute difference from the golden tensors.
const GOLDEN: f64 = 2e-4;

/// Trunk and head agree with the golden tensors, where the fixture has them, and choose the same tokens.
pub fn golden_tensors(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let Some(golden) = fixture.golden() else { return };
    let model = fixture.load(architecture);
    let report = parity::compare(&model, &golden).unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
    assert!(!report.compared.is_empty(), "{}: nothing was compared", fixture.name);
    assert!(report.skipped.is_empty(), "{}: not compared: {:?}", fixture.name, report.skipped);
    for comparison in report.compared {
        assert!(comparison.within(Tolerance::Largest(GOLDEN)), "{}: {comparison:?}", fixture.name);
        let margin = comparison.argmax.as_ref().map_or(0.0, |argmax| argmax.largest_margin);
        assert!(margin <= GOLDEN, "{}: another token than the golden one: {comparison:?}", fixture.name);
    }
}

/// The state after the golden prompt is the golden one, layer by layer, where the fixture has it in the layers' own form.
pub fn golden_states(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let (Some(golden), Some(prompt)) = (fixture.golden(), fixture.ids("input_ids")) else { return };
    let model = fixture.load(architecture);
    let (cache, _) = state::fresh(&model, &prompt).expect("a forward pass");
    for (index, layer) in cache.layers().iter().enumerate() {
        let parts: Vec<(&str, Array)> = match layer {
            LayerCache::Kv(kv) => kv.committed().expect("views").map_or(Vec::new(), |(k, v)| vec![("k", k), ("v", v)]),
            LayerCache::Recurrent(recurrent) => {
                ["S", "conv"].into_iter().zip(recurrent.states().iter().cloned()).collect()
            }
        };
        for (part, found) in parts {
            let name = format!("trunk.cache.{index}.{part}");
            let expected = golden.floats(&name).unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
            // A latent cache is not stored as it is held.
            let Some(expected) = expected.filter(|expected| expected.values.len() == found.size()) else { continue };
            let shape = found.shape();
            let expected = Array::from_slice(&expected.values, shape);
            assert_close(&format!("{}: {name}", fixture.name), &found, &expected, GOLDEN);
        }
    }
}

/// A prompt fed in random pieces, at once, or token by token leaves the same rows and the same state, in trunk and head.
pub fn chunked_prefill_is_prefill(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let mut rng = Rng::new(3);
    // Long enough to cross the chunks that recurrent layers and buffers are divided into.
    let tokens = rng.tokens(150, model.info.vocab_size);
    let (expected, hidden) = state::fresh(&model, &tokens).expect("a forward pass");
    let history = state::fresh_history(&model, &tokens).expect("a history");
    let last = tokens.len() as i32 - 1;
    for (largest, name) in [(1, "token by token"), (7, "in small pieces"), (90, "in large pieces")] {
        let what = format!("{}: {name}", fixture.name);
        let mut cache = model.trunk.new_cache();
        let mut built = model.drafter.as_ref().map(|head| head.new_state());
        let mut start = 0;
        for piece in rng.pieces(tokens.len(), largest) {
            let rows = model.trunk.append(&token_array(&tokens[start..start + piece]), &mut cache).expect("a piece");
            let end = (start + piece).min(last as usize);
            let reference = host::rows(&hidden, start as i32, (start + piece) as i32).expect("rows");
            assert_close(&format!("{what}: rows from {start}"), &rows, &reference, state::TOLERANCE);
            if let (Some(head), Some(built), true) = (&model.drafter, &mut built, end > start) {
                let rows = host::rows(&rows, 0, (end - start) as i32).expect("rows");
                head.feed(built, &rows, &token_array(&tokens[start + 1..=end])).expect("an ingest");
            }
            start += piece;
        }
        assert_same_state(&what, &cache, &expected);
        if let Some(built) = &built {
            assert_same_state(&format!("{what}: history"), &built.history, &history);
        }
    }
}

/// The rows of a verification have the logits of single steps.
pub fn verified_rows_are_single_steps(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    let (mut base, _) = state::fresh(&model, &prompt).expect("a forward pass");
    let base = base.freeze().expect("a prefix");
    for width in 1..=9 {
        let tokens = Rng::new(width as u64).tokens(width, model.info.vocab_size);
        let mut together = base.fork();
        let rows = model.trunk.verify(&token_array(&tokens), &mut together).expect("a verification");
        let logits = model.trunk.logits(&rows).expect("logits");
        let mut single = base.fork();
        for (row, &token) in tokens.iter().enumerate() {
            let hidden = model.trunk.append(&token_array(&[token]), &mut single).expect("a step");
            let expected = model.trunk.logits(&hidden).expect("logits");
            let found = host::rows(&logits, row as i32, row as i32 + 1).expect("a row");
            assert_close(&format!("{}: row {row} of {width}", fixture.name), &found, &expected, state::TOLERANCE);
        }
    }
}
