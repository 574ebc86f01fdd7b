//! A fleet as users have it: a real broker, a coordinator and agents as processes, driven by the command line.

mod python;
mod runs;
mod scrape;
mod support;
