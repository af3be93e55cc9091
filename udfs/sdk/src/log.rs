//! The module's log, which `luge logs` shows.
//!
//! A line costs one host call, and fuel for every 16 bytes. It stays, whatever becomes of the call. The
//! macros take the arguments of [`format!`]; a text without arguments links no formatting machinery.

use std::borrow::Cow;
use std::fmt::Arguments;

use crate::raw;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Every step.
    Trace = 0,
    /// For whoever looks for a fault.
    Debug = 1,
    /// Worth knowing.
    Info = 2,
    /// Something is odd.
    Warn = 3,
    /// Something failed.
    Error = 4,
}

/// Writes one line.
pub fn write(level: Level, message: &str) {
    raw::log(level as u32, message.as_bytes());
}

#[doc(hidden)]
pub fn write_arguments(level: Level, arguments: Arguments<'_>) {
    let message = arguments
        .as_str()
        .map_or_else(|| Cow::Owned(arguments.to_string()), Cow::Borrowed);
    write(level, &message);
}

/// Logs every step: `trace!("read {key}")`.
#[macro_export]
macro_rules! trace {
    ($($arguments:tt)+) => { $crate::log::write_arguments($crate::log::Level::Trace, ::core::format_args!($($arguments)+)) };
}

/// Logs for whoever looks for a fault: `debug!("balance {balance}")`.
#[macro_export]
macro_rules! debug {
    ($($arguments:tt)+) => { $crate::log::write_arguments($crate::log::Level::Debug, ::core::format_args!($($arguments)+)) };
}

/// Logs what is worth knowing: `info!("opened {account}")`.
#[macro_export]
macro_rules! info {
    ($($arguments:tt)+) => { $crate::log::write_arguments($crate::log::Level::Info, ::core::format_args!($($arguments)+)) };
}

/// Logs that something is odd: `warn!("{key} is not a number")`.
#[macro_export]
macro_rules! warn {
    ($($arguments:tt)+) => { $crate::log::write_arguments($crate::log::Level::Warn, ::core::format_args!($($arguments)+)) };
}

/// Logs that something failed: `error!("{key} cannot be read")`.
#[macro_export]
macro_rules! error {
    ($($arguments:tt)+) => { $crate::log::write_arguments($crate::log::Level::Error, ::core::format_args!($($arguments)+)) };
}
