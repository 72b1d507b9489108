//! Plans: a model's layers as shapes and options, before there are any arrays.
//!
//! A plan knows its tensors by name and shape. It lists them, so that a checkpoint can be judged by its headers without a
//! device (`expected`), reads them (`load`), and tells what becomes of them in an artifact (`conversion`).

mod attention;
pub mod config;
mod conversion;
mod decoder;
mod drafter;
mod feed_forward;
mod layer;
mod mla;
mod model;

pub use attention::{AttentionPlan, QkNormPlan};
pub use decoder::{DecoderNames, DecoderPlan};
pub use drafter::{DrafterPlan, HeadNames, HeadNorms};
pub use feed_forward::{FeedForwardPlan, MoePlan, RouterPlan, SharedPlan, SwiGluPlan};
pub use layer::{LayerPlan, MixerPlan};
pub use mla::MlaPlan;
