//! Luge and its peers, side by side in one run.
//!
//! [`system`] starts servers and writes their requests, [`workload`] says what is asked, [`series`] measures in turns,
//! [`figures`] reduces that to medians and ratios, [`target`] holds them against what is aimed at, and [`report`]
//! tells it. [`hosting`] compares with what a host of Wasm plugins published.

pub mod figures;
pub mod hosting;
mod instances;
pub mod report;
pub mod request;
pub mod series;
pub mod server;
pub mod system;
pub mod target;
pub mod workload;
