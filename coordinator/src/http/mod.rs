//! The coordinator's HTTP interface: translates between HTTP and [`Handle`](crate::service::Handle), and decides who
//! may do what. No rules of the domain.

pub mod model;
pub mod tokens;
