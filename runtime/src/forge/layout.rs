//! Where every tensor of an artifact lies: files of a bounded size, each with its header, before a byte of data exists.

use std::fmt::Write as _;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

/// Largest shard, as long as no tensor is larger.
pub(super) const SHARD: u64 = 5_000_000_000;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Tensor {
    pub(super) fn bytes(&self) -> u64 {
        numbers(&self.shape) * (self.dtype.bitsize() / 8) as u64
    }
}

/// How many numbers a shape has.
pub(super) fn numbers(shape: &[usize]) -> u64 {
    shape.iter().map(|&n| n as u64).product()
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub name: String,
    /// Length and JSON, padded so that the data begins at a multiple of 8.
    pub header: Vec<u8>,
    /// Tensors with the offset of their data in the file.
    pub tensors: Vec<(Tensor, u64)>,
    pub size: u64,
}

/// Distributes modules, whose tensors stay together, over files of at most `limit` bytes. `name(number, of)` names them,
/// counted from 1.
pub(super) fn files(modules: Vec<Vec<Tensor>>, limit: u64, name: impl Fn(usize, usize) -> String) -> Vec<File> {
    let mut shards: Vec<Vec<Tensor>> = Vec::new();
    let mut room = 0;
    for module in modules {
        let bytes = module.iter().map(Tensor::bytes).sum();
        match shards.last_mut() {
            Some(shard) if bytes <= room => {
                shard.extend(module);
                room -= bytes;
            }
            _ => {
                shards.push(module);
                room = limit.saturating_sub(bytes);
            }
        }
    }
    let count = shards.len();
    shards.into_iter().enumerate().map(|(index, tensors)| file(name(index + 1, count), tensors)).collect()
}

/// One file.
fn file(name: String, mut tensors: Vec<Tensor>) -> File {
    // Wide types first: every tensor then begins at a multiple of its type's width.
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
    let mut entries = Map::with_capacity(tensors.len() + 1);
    entries.insert("__metadata__".to_owned(), json!({"format": "mlx"}));
    let mut offset = 0;
    let mut placed = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let end = offset + tensor.bytes();
        let entry = json!({"dtype": tensor.dtype.to_string(), "shape": tensor.shape, "data_offsets": [offset, end]});
        entries.insert(tensor.name.clone(), entry);
        placed.push((tensor, offset));
        offset = end;
    }
    let mut text = Value::Object(entries).to_string();
    let _ = write!(text, "{:1$}", "", text.len().next_multiple_of(8) - text.len());
    let header = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let start = header.len() as u64;
    placed.iter_mut().for_each(|(_, place)| *place += start);
    File { name, header, tensors: placed, size: start + offset }
}
