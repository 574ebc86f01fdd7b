//! All tests that go beyond one package, in one binary so that it links once.

mod architecture;
#[path = "../coordinator/tests/support/cluster.rs"]
#[expect(clippy::unwrap_used, reason = "a failed call is a failed test")]
mod cluster;
mod e2e;
mod fleet;
mod golden;
mod ops;
mod sim;
