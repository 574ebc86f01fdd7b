//! A coordinator with a real store and agents that the tests play, over the in-process transport.

mod away;
mod feed;
mod fleet;
mod rig;
