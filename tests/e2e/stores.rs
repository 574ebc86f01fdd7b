//! `cairn run` on each store.
