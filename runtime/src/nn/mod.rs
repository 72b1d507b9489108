//! Layers that families are made of: norms, embeddings, rotary positions, attention, feed-forward blocks, the MTP head.
//!
//! Activations are `[n, features]`: the rows of all sequences of a pass.

pub mod attention;
pub mod block;
pub mod decoder;
pub mod embedding;
pub mod mixer;
pub mod mla;
pub mod mlp;
pub mod moe;
pub mod mtp_head;
pub mod norm;
pub mod output;
pub mod plan;
pub mod residual;
pub mod rope;
pub mod weights;

pub use crate::kernels::routing::{Groups, RouterParams, Scoring};
pub use attention::{Attention, AttentionShape, QkNorm, attend_in_parts, causal_mask, contain_faults};
pub use block::Block;
pub use decoder::Decoder;
pub use embedding::{Embedding, LmHead};
pub use mixer::{FusedMixer, Mixer, Rows, each_sequence};
pub use mla::Mla;
pub use mlp::SwiGlu;
pub use moe::{FeedForward, Router, SparseMoe, SwitchGlu};
pub use mtp_head::{MtpHead, MtpLayer};
pub use norm::RmsNorm;
pub use output::Output;
pub use residual::{BlockInput, BlockOutput, Residual};
pub use rope::{Rope, RowPositions, Yarn};
pub use weights::Weights;
