//! A safetensors header, parsed and checked before anything believes it.
//!
//! The format: 8 bytes of little-endian header length, that many bytes of JSON (`{"name": {dtype, shape, data_offsets}}`),
//! then the data. What a file must satisfy here: the header starts with `{` and lies within the file and under
//! [`MAX_HEADER`]; no name occurs twice; every shape's product times its type's width is its byte range (checked
//! arithmetic); the ranges follow one another without overlap or hole and end where the file ends.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use safetensors::Dtype;
use serde::de::value::{Error as PlainError, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};

use super::error::{ArtifactError, shown};
use super::tensor_info::TensorInfo;

/// Longest header in bytes: the format's own limit.
pub const MAX_HEADER: usize = 100_000_000;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;
/// Largest dimension: MLX counts in `int`.
const MAX_DIM: usize = i32::MAX as usize;
/// Bytes of the header's length.
const PREFIX: usize = 8;

/// A tensor's entry as the header writes it. It has no other keys, so that nothing is skipped unread.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// A header: tensors by name.
struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = BTreeMap::new();
                let mut metadata = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        // MLX writes null where it has nothing to say.
                        if metadata.replace(map.next_value::<Option<HashMap<String, String>>>()?).is_some() {
                            return Err(A::Error::custom("__metadata__ occurs twice"));
                        }
                    } else {
                        insert_new(&mut entries, name, &mut map)?;
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads a key's value; a key that was there before is an error.
fn insert_new<'de, V: Deserialize<'de>, A: MapAccess<'de>>(
    entries: &mut BTreeMap<String, V>,
    name: String,
    map: &mut A,
) -> Result<(), A::Error> {
    match entries.entry(name) {
        btree_map::Entry::Occupied(entry) => Err(A::Error::custom(format!("{} occurs twice", shown(entry.key())))),
        btree_map::Entry::Vacant(entry) => {
            entry.insert(map.next_value()?);
            Ok(())
        }
    }
}

/// A JSON object in which no key occurs twice.
pub(super) struct Unique<V>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    insert_new(&mut entries, name, &mut map)?;
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// The tensors of a whole safetensors file, in the order of their names.
///
/// `path` names the file in errors, `file` in [`TensorInfo::file`].
///
/// # Errors
/// [`ArtifactError::Damaged`] naming the file, the tensor and what does not add up; [`ArtifactError::Refused`] for a file of
/// another format (pickle, GGUF …).
pub fn parse(path: &str, file: &Arc<str>, bytes: &[u8]) -> Result<Vec<(String, TensorInfo)>, ArtifactError> {
    let damaged = |what: String| ArtifactError::damaged(path, what);
    let size = bytes.len();
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(damaged(match size {
            0 => "empty file: expected safetensors".to_owned(),
            _ => format!("{size} bytes: too short for a safetensors header"),
        }));
    };
    if rest.first() != Some(&b'{') {
        return Err(foreign(path, bytes));
    }
    let length = u64::from_le_bytes(*prefix);
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= MAX_HEADER)
        .ok_or_else(|| damaged(format!("header of {length} bytes: expected at most {MAX_HEADER}")))?;
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err(damaged(format!("header of {length} bytes: the file has only {} after its length", rest.len())));
    };
    // All of it, for the parser does not look into strings that nobody asks for.
    let header = str::from_utf8(header).map_err(|error| damaged(format!("header: {error}")))?;
    let Header(entries) = serde_json::from_str(header).map_err(|error| damaged(format!("header: {error}")))?;

    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let info = entry.check(file, PREFIX + length, data.len());
        tensors.push((name.clone(), info.map_err(|what| damaged(format!("tensor {}: {what}", shown(&name))))?));
    }
    // An empty tensor shares its start with the tensor after it, so the end decides between them.
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, info)| (info.range.start, info.range.end));
    let mut end = PREFIX + length;
    for (name, info) in order {
        if info.range.start != end {
            let fault =
                if info.range.start < end { "overlaps the tensor before it" } else { "leaves a hole before it" };
            let (start, end) = (info.range.start - PREFIX - length, end - PREFIX - length);
            return Err(damaged(format!("tensor {}: data at {start} {fault}: expected {end}", shown(name))));
        }
        end = info.range.end;
    }
    if end != size {
        return Err(damaged(format!("{} bytes after the last tensor's end at {end}", size - end)));
    }
    Ok(tensors)
}

impl Entry {
    /// The entry as a [`TensorInfo`], if type, shape and byte range agree and lie within `available` bytes of data.
    fn check(self, file: &Arc<str>, base: usize, available: usize) -> Result<TensorInfo, String> {
        let Self { dtype: name, shape, data_offsets: (start, end) } = self;
        let text: StrDeserializer<'_, PlainError> = name.as_str().into_deserializer();
        let dtype = Dtype::deserialize(text).map_err(|_| format!("type {}: not one of safetensors'", shown(&name)))?;
        if shape.len() > MAX_RANK {
            return Err(format!("{} dimensions: expected at most {MAX_RANK}", shape.len()));
        }
        if let Some(dim) = shape.iter().find(|&&dim| dim > MAX_DIM) {
            return Err(format!("shape {shape:?}: dimension {dim}: expected at most {MAX_DIM}"));
        }
        let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &dim| bits.checked_mul(dim));
        let expected = match bits {
            Some(bits) if bits % 8 == 0 => bits / 8,
            Some(_) => return Err(format!("shape {shape:?} of {dtype}: not a whole number of bytes")),
            None => return Err(format!("shape {shape:?} of {dtype}: more bytes than can be counted")),
        };
        if start > end {
            return Err(format!("data_offsets [{start}, {end}]: the end lies before the start"));
        }
        if end > available {
            return Err(format!("data_offsets [{start}, {end}]: the file has {available} bytes of data (truncated?)"));
        }
        if end - start != expected {
            return Err(format!("{} bytes: expected {expected} for shape {shape:?} of {dtype}", end - start));
        }
        Ok(TensorInfo { dtype, shape, file: Arc::clone(file), range: base + start..base + end })
    }
}

/// What a file is that does not begin like safetensors.
fn foreign(path: &str, bytes: &[u8]) -> ArtifactError {
    let convert = "convert it to safetensors with the tools of whoever published it";
    let refused = |what: &str| ArtifactError::refused(path, what, convert);
    match bytes {
        [b'P', b'K', 3, 4, ..] => {
            refused("a zip archive (PyTorch pickle), not safetensors: pickle can run code when read")
        }
        [0x80, 2..=5, ..] => refused("a pickle, not safetensors: pickle can run code when read"),
        [b'G', b'G', b'U', b'F', ..] => refused("a GGUF file, not safetensors"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => refused("a NumPy file, not safetensors"),
        _ if bytes.starts_with(b"version https://git-lfs") => ArtifactError::damaged_with(
            path,
            "a Git LFS pointer, not the weights it points to",
            "run `git lfs pull` in the checkpoint's folder",
        ),
        _ => ArtifactError::damaged(path, "not safetensors: the header does not begin with {"),
    }
}
