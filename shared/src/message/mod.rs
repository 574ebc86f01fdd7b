//! What coordinators and agents say to each other.
//!
//! [`order`] is the form inside one process: indices of a plan that both sides read. [`wire`] is the form between
//! machines: self-contained, so that an agent needs neither plan nor store. [`codec`] makes bytes of it, [`convert`] leads
//! from one form to the other, [`batch`] gathers items into messages, [`trace`] says which trace a message belongs to.
//!
//! ```text
//!   coordinator ──ToAgent──▶ an agent's own queue, or a shared one of a capability
//!   agent ──ToCoordinator──▶ the coordinators' queue; output goes apart from it
//! ```
//!
//! Not here: how a message gets there ([`crate::transport`]), what follows from it (the engine, the machine).

pub mod batch;
pub mod codec;
pub mod convert;
pub mod order;
pub mod trace;
pub mod wire;

pub use order::{Order, OrderKind, Orders};
