//! Sampling on the device. Its reference on the host is [`crate::speculation`].

pub mod device;

pub use crate::speculation::{
    Noise, ParamsError, REPETITION_PENALTIES, Role, SamplingParams, TEMPERATURES, TokenCounts,
};
pub use crate::speculation::{filter, noise, params};
pub use device::DeviceSampler;
