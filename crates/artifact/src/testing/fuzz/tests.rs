//! A moment of each target on every run of the tests, and once more every input that ever found something.

use super::*;

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
