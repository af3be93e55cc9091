//! Placeholder.
pub mod store;
pub mod transaction;
