//! Writes a tiny model of random weights that the program can run: `cargo run -p acme-architecture --example tiny -- DIR`.

use std::path::PathBuf;
use std::{env, fs, io};

use mtplx_runtime::testing::TinyCheckpoint;
use serde_json::json;

use acme_architecture::Acme;

fn main() -> io::Result<()> {
    let dir: PathBuf = env::args_os().nth(1).ok_or_else(|| io::Error::other("expected a folder"))?.into();
    fs::create_dir_all(&dir)?;
    let config = json!({
        "model_type": "acme", "dtype": "float32", "max_position_embeddings": 2048,
        "hidden_size": 64, "vocab_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "intermediate_size": 96, "num_nextn_predict_layers": 1,
    });
    TinyCheckpoint::planned(&Acme, config, 7).byte_tokenizer().write_to(&dir);
    Ok(())
}
