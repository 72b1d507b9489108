//! Sizes as people read them.

pub use mtplx_runtime::artifact::size_shown as shown;
