//! Plans: what a configuration says of a layer, as shapes and options, before there are any arrays.
//!
//! A plan knows its tensors by name and shape. It lists them, so that a checkpoint can be judged by its headers without a
//! device (`expected`), and it reads them (`load`).

mod architecture;
mod attention;
pub mod config;
mod decoder;
mod drafter;
mod feed_forward;
mod forge;
mod layer;

pub use architecture::PlannedArchitecture;
pub use attention::{AttentionPlan, QkNormPlan};
pub use decoder::DecoderPlan;
pub use drafter::{DrafterPlan, HeadNames};
pub use feed_forward::{FeedForwardPlan, MoePlan, RouterPlan, SharedPlan, SwiGluPlan};
pub use layer::{LayerPlan, MixerPlan};
