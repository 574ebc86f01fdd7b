//! All tests that go beyond one package, in one binary so that it links once.

mod architecture;
mod e2e;
mod golden;
mod ops;
mod sim;
