//! What hostile files make the program hold: never more than a small multiple of their own size.
//!
//! Each is read by a thread whose allocator gives no more than that; see [`crate::memory::within`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Folder, raw};
use crate::header::parse;
use crate::memory::{Budget, within};
use crate::{ArtifactError, Checkpoint, Contract, index};

/// Bytes that anything may take, whatever its size.
const BASE: usize = 256 << 10;

/// Runs `read` on an input of `size` bytes with `BASE` and `factor` times its size.
#[track_caller]
fn bounded<T: Send + 'static>(size: usize, factor: usize, read: impl FnOnce() -> T + Send + 'static) -> T {
    let budget = Budget { memory: BASE + factor * size, time: Duration::from_secs(60), stack: 8 << 20 };
    within(budget, read).unwrap_or_else(|exceeded| panic!("{size} bytes, {factor} times: {exceeded:?}"))
}

/// Opens a folder with the input as one of its files.
#[track_caller]
fn opened(folder: Folder, size: usize, factor: usize) -> Result<(), String> {
    let path = folder.path().to_owned();
    bounded(size, factor, move || match Checkpoint::open(&path) {
        Ok(checkpoint) => {
            let _ = Contract::read(&checkpoint);
            Ok(())
        }
        Err(error) => Err(ArtifactError::to_string(&error)),
    })
}

#[test]
fn headers() {
    let parsed = |bytes: Vec<u8>, factor: usize| {
        bounded(bytes.len(), factor, move || {
            parse("f", &Arc::from("f"), &bytes).map(|t| t.len()).map_err(|e| e.to_string())
        })
    };
    // As many tensors as fit.
    let entry = |i: usize| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let header = format!("{{{}}}", (0..100_000).map(entry).collect::<Vec<_>>().join(","));
    assert_eq!(parsed(raw(&header, &[]), 12), Ok(100_000));
    // Lengths that the file does not have.
    for length in [100_000_001, 1 << 40, u64::MAX] {
        assert!(parsed([&length.to_le_bytes()[..], b"{}"].concat(), 0).is_err());
    }
    // Shapes, names and metadata without end.
    let ones = "1,".repeat(500_000);
    let long = format!(r#"{{"a":{{"dtype":"U8","shape":[{ones}1],"data_offsets":[0,1]}}}}"#);
    assert!(parsed(raw(&long, &[0]), 16).unwrap_err().contains("dimensions: expected at most 8"));
    let name = "n".repeat(1 << 20);
    let long = format!(r#"{{"{name}":{{"dtype":"{name}","shape":[],"data_offsets":[0,1]}}}}"#);
    assert!(parsed(raw(&long, &[0]), 4).is_err());
    let pairs: Vec<String> = (0..50_000).map(|i| format!(r#""{i:x}":"""#)).collect();
    let metadata = format!(r#"{{"__metadata__":{{{}}}}}"#, pairs.join(","));
    assert_eq!(parsed(raw(&metadata, &[]), 16), Ok(0));
    assert!(parsed(raw(&"[".repeat(1 << 20), &[]), 1).is_err());
    assert!(parsed(raw(&format!(r#"{{"a":{}"#, "[".repeat(1 << 20)), &[]), 1).unwrap_err().contains("header: "));
}

/// The attempts of the safetensors project (its folder `attacks`), made again at a size that tests can afford.
#[test]
fn attacks_of_the_safetensors_project() {
    let parsed = |bytes: Vec<u8>, factor: usize| {
        bounded(bytes.len(), factor, move || parse("f", &Arc::from("f"), &bytes).map(drop).map_err(|e| e.to_string()))
    };
    // 1: the header claims a thousand bytes and the file is small.
    let mut bytes = raw(r#"{"weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#, &[0; 16]);
    bytes[..8].copy_from_slice(&1000_u64.to_le_bytes());
    assert!(parsed(bytes, 1).unwrap_err().starts_with("f: header of 1000 bytes: the file has only "));
    // 2 and 3: many tensors, all over the same few bytes, and as many bytes of nothing as the header has.
    for (side, count) in [(2, 60_000), (200, 60_000)] {
        let size = side * side * 4;
        let entry =
            |i: usize| format!(r#""weight_{i}":{{"dtype":"F32","shape":[{side},{side}],"data_offsets":[0,{size}]}}"#);
        let header = format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(", "));
        let error = parsed(raw(&header, &vec![0; header.len()]), 6).unwrap_err();
        assert!(error.ends_with(&format!("data at 0 overlaps the tensor before it: expected {size}")), "{error}");
    }
    // 2 as published has ten million of them: longer than any header may be, and refused unread.
    let mut bytes = 700_000_000_u64.to_le_bytes().to_vec();
    bytes.extend(br#"{"weight_0":"#);
    assert_eq!(parsed(bytes, 0), Err("f: header of 700000000 bytes: expected at most 100000000".into()));
    // Its proposals: offsets outside, backwards, negative, and not those of shape and type.
    for (shape, offsets) in
        [("[2]", "[8,16]"), ("[2]", "[8,0]"), ("[2]", "[-8,0]"), ("[3]", "[0,8]"), ("[4611686018427387904,4]", "[0,8]")]
    {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        assert!(parsed(raw(&header, &[0; 8]), 4).is_err(), "{header}");
    }
}

#[test]
fn indexes() {
    let pairs: Vec<String> = (0..100_000).map(|i| format!(r#""{i:x}":"s""#)).collect();
    let many = format!(r#"{{"weight_map":{{{}}}}}"#, pairs.join(","));
    let size = many.len();
    let error = bounded(size, 16, move || index::parse("f", many.as_bytes()).map(drop).unwrap_err().to_string());
    assert_eq!(error, "f: weight_map: \"s\": a shard that is not safetensors");
    // As many shards as tensors.
    let pairs: Vec<String> = (0..100_000).map(|i| format!(r#""{i:x}":"{i:x}.safetensors""#)).collect();
    let many = format!(r#"{{"weight_map":{{{}}}}}"#, pairs.join(","));
    let size = many.len();
    let error = bounded(size, 16, move || index::parse("f", many.as_bytes()).map(drop).unwrap_err().to_string());
    assert_eq!(error, "f: weight_map: 100000 shards: expected 1 to 4096");
}

/// Values that take most for what they are written with: empty arrays, objects of one field, short strings and numbers.
fn dense(value: &str, size: usize) -> String {
    let count = size / (value.len() + 1);
    format!("[{}]", vec![value; count].join(","))
}

#[test]
fn configurations_and_contracts() {
    for value in ["[]", "{}", "0", r#""""#, r#"{"":0}"#, "[[]]", r#""/a/b""#, "null"] {
        let list = dense(value, 256 << 10);
        for fields in
            [format!(r#""x":{list}"#), format!(r#""text_config":{{"x":{list}}}"#), format!(r#""eos_token_id":{list}"#)]
        {
            let config = format!(r#"{{"model_type":"toy",{fields}}}"#);
            let size = config.len();
            let folder = Folder::empty().file("config.json", config).tensors("model.safetensors", &["x"], 1);
            opened(folder, size, 256).unwrap();
        }
        for field in ["x", "exactness_baseline", "sha256", "forge_provenance", "mtplx_version"] {
            let contract = format!(r#"{{"{field}":{list}}}"#);
            let size = contract.len();
            let folder = Folder::new().file("mtplx_runtime.json", contract).tensors("model.safetensors", &["x"], 1);
            opened(folder, size, 128).unwrap();
        }
    }
    // A file of the largest size could take gigabytes at that rate: what has so many values is no configuration.
    let config = format!(r#"{{"model_type":"toy","x":{}}}"#, dense("[]", 4 << 20));
    let size = config.len();
    let folder = Folder::empty().file("config.json", config).tensors("model.safetensors", &["x"], 1);
    let error = opened(folder, size, 4).unwrap_err();
    assert!(error.ends_with("config.json: more than 1048576 values"), "{error}");
}

#[test]
fn nesting() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [100, 200, 100_000] {
            let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            let size = nested.len();
            let config = format!(r#"{{"model_type":"toy","x":{nested}}}"#);
            let folder = Folder::empty().file("config.json", config).tensors("model.safetensors", &["x"], 1);
            let result = opened(folder, size, 64);
            assert_eq!(result.is_ok(), depth == 100, "{depth}: {result:?}");
            assert!(result.err().is_none_or(|error| error.contains("recursion limit exceeded")));
            let folder = Folder::new().file("mtplx_runtime.json", format!(r#"{{"x":{nested}}}"#)).tensors(
                "model.safetensors",
                &["x"],
                1,
            );
            opened(folder, size, 64).unwrap();
        }
    }
}

#[test]
fn numbers_beyond_every_type() {
    for number in [
        "1e308",
        "1e999",
        "-1e999",
        "18446744073709551616",
        &"9".repeat(100_000),
        &format!("0.{}", "1".repeat(100_000)),
    ] {
        let text = format!(r#"{{"model_type":"toy","x":{number}}}"#);
        let folder = Folder::empty().file("config.json", &text).tensors("model.safetensors", &["x"], 1);
        let size = text.len();
        let path = folder.path().to_owned();
        bounded(size, 16, move || {
            // Not a number to JSON's own rules, or one that no bound lets through.
            if let Ok(checkpoint) = Checkpoint::open(&path) {
                assert!(checkpoint.config().get("x").is_some_and(Value::is_number));
                assert!(checkpoint.config().size("x", usize::MAX).is_err());
                assert!(checkpoint.config().number_or("x", 0.0).map_or(true, |x| x.abs() <= 1e30));
            }
        });
    }
}
