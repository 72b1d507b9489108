//! A moment of each target on every run of the tests, and once more every input that ever found something.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::*;

/// The files of a folder in `fuzz/`, in the order of their names.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

/// The same mutations of the seeds every time, after what was found before.
fn moment(name: &str, runs: usize, target: impl Fn(&[u8])) {
    files(&format!("found/{name}")).iter().for_each(|found| target(found));
    let seeds = files(&format!("seeds/{name}"));
    seeds.iter().for_each(|seed| target(seed));
    drive(&seeds, 0x5eed, runs, |bytes| {
        target(bytes);
        ControlFlow::Continue(())
    });
}

#[test]
fn a_moment_of_weights() {
    moment("weights", 60_000, weights);
}

#[test]
fn a_moment_of_header() {
    moment("header", 60_000, header);
}

#[test]
fn a_moment_of_shards() {
    moment("shards", 60_000, shards);
}

#[test]
fn a_moment_of_config() {
    moment("config", 1_500, |bytes| config(bytes, &Registry::new([])));
}

#[test]
fn a_moment_of_contract() {
    moment("contract", 20_000, contract);
}

#[test]
fn a_moment_of_tokenizer() {
    moment("tokenizer", 4_000, tokenizer);
}

#[test]
fn a_moment_of_template() {
    moment("template", 1_000, template);
}
