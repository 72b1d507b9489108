//! Every linked architecture against configurations that ask for more than any machine has.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mtplx_engine::assess::assess;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::artifact::memory::{Budget, within};
use mtplx_runtime::registry::Registry;
use serde_json::{Value, json};

/// The configurations of the fixtures.
fn configurations() -> Vec<Value> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folders = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.map(|folder| folder.join("config.json")).filter(|file| file.is_file());
    let configurations: Vec<Value> =
        files.map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect();
    assert!(configurations.len() > 5);
    configurations
}

/// Sets every whole number of an object, however deep.
fn inflate(value: &mut Value, number: u64) {
    match value {
        Value::Number(old) if old.is_u64() => *value = json!(number),
        Value::Object(fields) => fields.values_mut().for_each(|value| inflate(value, number)),
        Value::Array(items) => items.iter_mut().for_each(|value| inflate(value, number)),
        _ => {}
    }
}

/// The verdict, from a thread that gets a few megabytes and seconds; a few tensors are all that there is.
fn judged(config: &Value) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let header = r#"{"mtp.fc.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let weights = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0]].concat();
    fs::write(dir.path().join("model.safetensors"), weights).unwrap();
    let path = dir.path().to_owned();
    let budget = Budget { memory: 64 << 20, time: Duration::from_secs(20), stack: 8 << 20 };
    let judged = within(budget, move || {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let assessment = assess(&checkpoint, &Registry::linked());
        assessment.verdict.to_string().len()
    });
    assert!(judged.is_ok_and(|length| length < 16 << 20), "{judged:?}: {config}");
}

#[test]
fn sizes_beyond_reason_take_no_memory() {
    for config in configurations() {
        for number in [0, 1, 512, 1 << 16, 1 << 20, 1 << 31, 1 << 53, u64::MAX] {
            let mut inflated = config.clone();
            inflate(&mut inflated, number);
            judged(&inflated);
        }
    }
}

#[test]
fn one_size_beyond_reason_takes_no_memory() {
    for config in configurations() {
        let text = if config["text_config"].is_object() { "/text_config" } else { "" };
        let fields: Vec<String> = config
            .pointer(text)
            .unwrap()
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| value.is_u64())
            .map(|(name, _)| format!("{text}/{name}"))
            .collect();
        for field in fields {
            for number in [256, 4096, 1 << 17, 1 << 31, u64::MAX] {
                let mut inflated = config.clone();
                *inflated.pointer_mut(&field).unwrap() = json!(number);
                judged(&inflated);
            }
        }
    }
}
