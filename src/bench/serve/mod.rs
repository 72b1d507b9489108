//! `mtplx bench serve`: a closed loop of clients against any server with OpenAI's streamed routes.
//!
//! Own code where a library would do something else: clients are threads with a blocking HTTP client each, because that is all
//! that a closed loop of tens of clients needs, and server-sent events are read by lines (`sse`), to have the time of each.

mod bad;
mod chunk;
mod client;
mod counters;
mod fault;
mod load;
mod memory;
mod plot;
mod prompts;
mod reach;
mod report;
mod run;
mod sse;
mod table;
mod tally;
mod turns;

pub use self::plot::draw;
pub use self::run::measure;
pub use self::table::write as write_table;
