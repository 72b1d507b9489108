//! Tests of the whole dialect.

mod request;
mod writer;
