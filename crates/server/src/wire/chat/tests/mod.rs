//! Tests of the whole dialect.

mod answers;
mod requests;
