//! Fuzzing bodies of what judges files. Those of the files' own formats are in [`mtplx_runtime::artifact::testing::fuzz`].

use std::cell::RefCell;
use std::fs;

use mtplx_runtime::architecture::{Detection, HeadStatus};
use mtplx_runtime::artifact::quant::{HeadQuantization, Quantization};
use mtplx_runtime::artifact::testing::fuzz;
use mtplx_runtime::artifact::{Checkpoint, Config, Contract, json};
use mtplx_runtime::registry::Registry;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::assess::{assess, evidence};

/// `config.json`, as far as the verdict and the heads of `registry`'s architectures.
pub fn config(bytes: &[u8], registry: &Registry) {
    thread_local! {
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    if let Ok(config) = Config::parse("config.json", bytes) {
        let stated = Quantization::from_config(&config);
        stated.iter().flat_map(Quantization::modules).take(8).for_each(drop);
        let _ = HeadQuantization::from_config(&config);
        for (field, _) in config.text().fields().take(64) {
            // A bound is a bound, whatever the field holds.
            assert!(
                config.text().size(field, 1 << 20).is_ok_and(|size| size <= 1 << 20)
                    || config.text().size(field, 1 << 20).is_err()
            );
            assert!(config.text().number_or(field, 0.0).map_or(true, |number| number.abs() <= 1e30));
        }
    }
    FOLDER.with_borrow_mut(|folder| {
        let dir = folder.get_or_insert_with(|| {
            let dir = TempDir::new().expect("a temporary folder");
            let header = r#"{"model.embed_tokens.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
            let weights = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0]].concat();
            fs::write(dir.path().join("model.safetensors"), weights).expect("a file");
            dir
        });
        fs::write(dir.path().join("config.json"), bytes).expect("a file");
        if let Ok(checkpoint) = Checkpoint::open_lenient(dir.path()) {
            let assessment = assess(&checkpoint, registry);
            // One byte is no head.
            let complete = ["verified", "unverified", "contradicted"];
            assert!(!complete.contains(&assessment.verdict.name()));
            for architecture in registry.iter() {
                let complete = Detection::Claimed { head: HeadStatus::Complete };
                assert_ne!(architecture.detect(&checkpoint), complete, "{}", architecture.descriptor().id);
            }
        }
    });
}

/// `mtplx_runtime.json`, as its format promises and as far as its evidence is read.
pub fn contract(bytes: &[u8]) {
    fuzz::contract(bytes);
    let Ok(fields) = json::from_slice::<Map<String, Value>>(bytes) else { return };
    let (contract, _) = Contract::parse(fields);
    for doubt in evidence::doubts(&contract).all() {
        assert!(!doubt.contains(['\n', '\x1b']), "{doubt:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_config() {
        fuzz::moment("config", 1_500, |bytes| config(bytes, &Registry::new([])));
    }

    #[test]
    fn a_moment_of_contract() {
        fuzz::moment("contract", 20_000, contract);
    }
}
