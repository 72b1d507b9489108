//! What several families share: norms, embeddings, rotary positions, attention, feed-forward blocks, the next-n head.
//!
//! Activations are `[n, features]`: one sequence, n rows.

pub mod attention;
pub mod block;
pub mod decoder;
pub mod embedding;
pub mod mlp;
pub mod moe;
pub mod next_n;
pub mod norm;
pub mod output;
pub mod plan;
pub mod rope;
pub mod weights;

pub use attention::{Attention, AttentionShape, QkNorm, attend_in_parts, causal_mask, contain_faults};
pub use block::{Addend, Block, Input, Mixer, Residual};
pub use decoder::Decoder;
pub use embedding::{Embedding, LmHead};
pub use mlp::SwiGlu;
pub use moe::{FeedForward, Groups, Router, Scoring, SparseMoe, SwitchGlu};
pub use next_n::{NextNHead, NextNLayer, NextNModule, Rows};
pub use norm::RmsNorm;
pub use output::Output;
pub use rope::{Rope, Yarn};
pub use weights::Weights;
