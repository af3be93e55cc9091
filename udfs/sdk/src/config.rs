//! The module's configuration: what was given with `--config NAME=VALUE` when it was pushed.
//!
//! Each read is one host call and a little fuel. A setting that cannot be used should end the call, so that
//! a mistyped limit is noticed at the first call; the functions here panic then, naming the setting.

use crate::{decimal, raw, read};

/// A setting as bytes.
#[must_use]
pub fn get(name: &str) -> Option<Vec<u8>> {
    read::read(|offset, buffer| raw::config_get(name.as_bytes(), offset, buffer))
}

/// A setting as text; bytes that are no UTF-8 become replacement characters.
#[must_use]
pub fn text(name: &str) -> Option<String> {
    get(name).map(read::lossy)
}

/// A setting that is a whole number.
///
/// # Panics
/// Where it is something else.
#[must_use]
pub fn number(name: &str) -> Option<i64> {
    let text = get(name)?;
    let Some(number) = decimal::parse(&text) else {
        wrong(name, "a whole number");
    };
    Some(number)
}

/// A setting that is a whole number above 0, or what is to be used without it.
///
/// # Panics
/// Where it is something else.
#[must_use]
pub fn positive(name: &str, default: i64) -> i64 {
    let number = number(name).unwrap_or(default);
    if number <= 0 {
        wrong(name, "a number above 0");
    }
    number
}

fn wrong(name: &str, expected: &str) -> ! {
    std::panic::panic_any(["the setting `", name, "` is not ", expected].concat())
}
