//! A fleet as users have it: a real broker, a coordinator and agents as processes, driven by the command line.

mod alone;
mod bench;
mod chaos;
mod control;
mod doors;
mod frozen;
mod fuzz;
mod names;
mod outage;
mod postgres;
mod python;
mod readme;
mod restarts;
mod rivals;
mod runs;
mod scrape;
mod support;
mod timeouts;
mod tls;
mod traces;
