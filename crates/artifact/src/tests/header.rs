//! Headers that lie, each in its own way.

use std::sync::Arc;

use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};

use super::{Folder, raw, safetensors};
use crate::TensorInfo;
use crate::header::parse;

fn parsed(bytes: &[u8]) -> Result<Vec<(String, TensorInfo)>, String> {
    parse("f", &Arc::from("f"), bytes).map_err(|error| error.to_string())
}

/// What is said of a file with this header and 8 bytes of data.
fn said(header: &str) -> String {
    parsed(&raw(header, &[0; 8])).expect_err("accepted")
}

#[test]
fn a_good_header_gives_types_shapes_and_places() {
    let bytes = safetensors(&[("b", "BF16", vec![2, 3], vec![7; 12]), ("a", "U8", vec![], vec![9])]);
    let tensors = parsed(&bytes).unwrap();
    let start = bytes.len() - 13;
    let info = |dtype, shape, range| TensorInfo { dtype, shape, file: "f".into(), range };
    assert_eq!(tensors[0], ("a".to_owned(), info(Dtype::U8, vec![], start + 12..start + 13)));
    assert_eq!(tensors[1], ("b".to_owned(), info(Dtype::BF16, vec![2, 3], start..start + 12)));
}

#[test]
fn metadata_and_padding_and_empty_tensors_are_fine() {
    let header = r#"{"__metadata__":{"format":"mlx"},"e":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},
        "x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}   "#;
    assert_eq!(parsed(&raw(header, &[0; 8])).unwrap().len(), 3);
    // mx.save_safetensors without metadata.
    assert_eq!(parsed(&raw(r#"{"__metadata__":null}"#, &[])).unwrap(), []);
    assert!(said(r#"{"__metadata__":{"a":1}}"#).starts_with("f: header: invalid type: integer `1`, expected a string"));
}

#[test]
fn too_short_or_too_long() {
    assert_eq!(parsed(b"").unwrap_err(), "f: empty file: expected safetensors");
    assert_eq!(parsed(b"1234").unwrap_err(), "f: 4 bytes: too short for a safetensors header");
    let claims = |length: u64| parsed(&[&length.to_le_bytes()[..], b"{}"].concat()).unwrap_err();
    assert_eq!(claims(3), "f: header of 3 bytes: the file has only 2 after its length");
    assert_eq!(claims(100_000_001), "f: header of 100000001 bytes: expected at most 100000000");
    assert_eq!(claims(u64::MAX), "f: header of 18446744073709551615 bytes: expected at most 100000000");
}

#[test]
fn ranges_must_tile_the_data() {
    let two = |a: [usize; 2], b: [usize; 2]| {
        let entry = |[s, e]: [usize; 2]| format!(r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{s},{e}]}}"#, e - s);
        said(&format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b)))
    };
    assert_eq!(two([0, 4], [3, 8]), "f: tensor b: data at 3 overlaps the tensor before it: expected 4");
    assert_eq!(two([0, 8], [0, 8]), "f: tensor b: data at 0 overlaps the tensor before it: expected 8");
    assert_eq!(two([0, 4], [5, 8]), "f: tensor b: data at 5 leaves a hole before it: expected 4");
    assert_eq!(two([1, 4], [4, 8]), "f: tensor a: data at 1 leaves a hole before it: expected 0");
    assert!(two([0, 4], [4, 7]).starts_with("f: 1 bytes after the last tensor's end at "));
    assert_eq!(two([0, 4], [4, 9]), "f: tensor b: data_offsets [4, 9]: the file has 8 bytes of data (truncated?)");
    assert!(said("{}").starts_with("f: 8 bytes after the last tensor's end at "));
}

#[test]
fn shapes_types_and_ranges_must_agree() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        said(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#))
    };
    assert_eq!(one("F32", "[3]", "[0,8]"), "f: tensor a: 8 bytes: expected 12 for shape [3] of F32");
    assert_eq!(one("F33", "[2]", "[0,8]"), "f: tensor a: type F33: not one of safetensors'");
    assert_eq!(one("F4", "[3]", "[0,8]"), "f: tensor a: shape [3] of F4: not a whole number of bytes");
    assert_eq!(one("U8", "[8]", "[8,0]"), "f: tensor a: data_offsets [8, 0]: the end lies before the start");
    assert_eq!(
        one("F32", "[2147483647,2147483647,2147483647]", "[0,8]"),
        "f: tensor a: shape [2147483647, 2147483647, 2147483647] of F32: more bytes than can be counted"
    );
    assert_eq!(
        one("U8", "[0,2147483648]", "[0,8]"),
        "f: tensor a: shape [0, 2147483648]: dimension 2147483648: expected at most 2147483647"
    );
    assert_eq!(one("U8", "[1,1,1,1,1,1,1,1,8]", "[0,8]"), "f: tensor a: 9 dimensions: expected at most 8");
    for (shape, offsets) in
        [("[-8]", "[0,8]"), ("[8.0]", "[0,8]"), ("[8]", "[0,8,9]"), ("[8]", "[0,99999999999999999999]")]
    {
        assert!(one("U8", shape, offsets).starts_with("f: header: "), "{shape} {offsets}");
    }
}

#[test]
fn names_occur_once_and_cannot_draw_on_the_terminal() {
    let entry = r#"{"dtype":"U8","shape":[8],"data_offsets":[0,8]}"#;
    assert!(said(&format!(r#"{{"a":{entry},"a":{entry}}}"#)).starts_with("f: header: a occurs twice at line 1"));
    let said = said(r#"{"\u001b[2Ja\n\u202e":{"dtype":"U8","shape":[8],"data_offsets":[0,9]}}"#);
    assert!(said.starts_with("f: tensor \\u{1b}[2Ja\\u{a}\\u{202e}: data_offsets"), "{said}");
}

#[test]
fn other_formats_are_named() {
    for (bytes, what) in [
        (
            &b"PK\x03\x04........."[..],
            "incompatible: DIR/model.safetensors: a zip archive (PyTorch pickle), not safetensors",
        ),
        (b"\x80\x02}q\0........", "incompatible: DIR/model.safetensors: a pickle, not safetensors"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "incompatible: DIR/model.safetensors: a GGUF file"),
        (b"\x93NUMPY\x01\0v\0{'descr", "incompatible: DIR/model.safetensors: a NumPy file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "broken: DIR/model.safetensors: a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "broken: DIR/model.safetensors: not safetensors: the header does not begin with {"),
    ] {
        let fault = Folder::empty();
        let fault = fault.config(serde_json::json!({"model_type": "toy"})).file("model.safetensors", bytes).fault();
        assert!(fault.starts_with(what), "{fault}");
    }
}

proptest! {
    /// Any bytes: an answer, never a panic; and what is accepted, the format's own library accepts as well.
    #[test]
    fn random_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parsed(&bytes);
    }

    /// JSON of about the right form, to get past the first checks.
    #[test]
    fn near_misses_are_answered(
        entries in prop::collection::vec(
            ("[ab_]{1,2}", prop::sample::select(vec!["U8", "F32", "F4", "BF16", "X"]),
             prop::collection::vec(0_u64..4, 0..3), 0_u64..20, 0_u64..20), 0..4),
        data in 0_usize..24,
    ) {
        let entry = |(name, dtype, shape, start, end): &(String, &str, Vec<u64>, u64, u64)| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
        };
        let header = format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","));
        let bytes = raw(&header, &vec![0; data]);
        if let Ok(tensors) = parsed(&bytes) {
            let theirs = SafeTensors::deserialize(&bytes).expect("accepted here, refused by the format's library");
            prop_assert_eq!(theirs.len(), tensors.len());
        }
    }

    /// Files written by the format's own library read back the same.
    #[test]
    fn valid_files_round_trip(
        tensors in prop::collection::btree_map(
            "[a-z.]{1,8}", (prop::sample::select(vec![Dtype::U8, Dtype::F32, Dtype::BF16, Dtype::U32, Dtype::I64]),
             prop::collection::vec(0_usize..5, 0..4), any::<u8>()), 0..8),
    ) {
        let filled: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors.into_iter().map(|(name, (dtype, shape, fill))| {
            let bytes = vec![fill; shape.iter().product::<usize>() * dtype.bitsize() / 8];
            (name, dtype, shape, bytes)
        }).collect();
        let views = filled.iter().map(|(name, dtype, shape, bytes)| {
            (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        let read = parsed(&file).unwrap();
        prop_assert_eq!(read.len(), filled.len());
        for ((name, info), (their_name, dtype, shape, bytes)) in read.iter().zip(&filled) {
            prop_assert_eq!((name, info.dtype, &info.shape), (their_name, *dtype, shape));
            prop_assert_eq!(&file[info.range.clone()], &bytes[..]);
        }
    }
}
