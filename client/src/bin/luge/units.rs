//! Numbers, durations and sizes as people write them.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// The units of durations with their milliseconds, the largest first.
const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The units of sizes with their bytes, the largest first.
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A type of whole numbers, which has bounds.
pub(crate) trait Whole: FromStr + Display {
    const MIN: Self;
    const MAX: Self;
}

macro_rules! whole {
    ($($number:ty),*) => {
        $(impl Whole for $number {
            const MIN: Self = Self::MIN;
            const MAX: Self = Self::MAX;
        })*
    };
}

whole!(i32, i64, u64, usize);

/// Reads a whole number.
pub(crate) fn whole<N: Whole>(text: &str) -> Result<N, String> {
    let wrong = |_| format!("a whole number from {} to {} stands here", N::MIN, N::MAX);
    text.parse().map_err(wrong)
}

/// Reads `300ms`, `10s`, `5m`, `2h`, `1d`; at least 1ms.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let form = "a duration is a whole number and a unit, and at least 1ms: 300ms, 10s, 5m, 2h, 1d";
    match product(text, &TIMES) {
        Some(milliseconds) if milliseconds > 0 => Ok(Duration::from_millis(milliseconds)),
        _ => Err(form.to_owned()),
    }
}

/// Reads `64KiB`, `16MiB`, `1GiB`, or bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let form = "a size is a whole number, in bytes or with a unit: 64KiB, 16MiB, 1GiB";
    text.parse()
        .ok()
        .or_else(|| product(text, &SIZES))
        .ok_or_else(|| form.to_owned())
}

fn product(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes a duration in the largest unit that needs no fraction, as [`duration`] reads it.
pub(crate) fn show_milliseconds(milliseconds: u64) -> String {
    show(milliseconds, &TIMES)
}

/// Writes a size in the largest unit that needs no fraction, as [`size`] reads it.
pub(crate) fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZES)
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let (name, factor) = units
        .iter()
        .find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor))
        .or(units.last())
        .copied()
        .unwrap_or(("", 1));
    format!("{}{name}", amount / factor)
}

/// Writes milliseconds since 1970 as a date and time, UTC.
pub(crate) fn show_moment(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    let second = seconds % 60;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar. Years begin in March here,
/// so that the leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_is_told_the_bounds() {
        assert_eq!(whole::<u64>("7"), Ok(7));
        assert_eq!(whole::<i32>("-7"), Ok(-7));
        let told = "a whole number from -2147483648 to 2147483647 stands here".to_owned();
        for text in ["", "abc", "1.5", "99999999999"] {
            assert_eq!(whole::<i32>(text), Err(told.clone()));
        }
    }

    #[test]
    fn durations_have_a_whole_number_and_a_unit() {
        for (text, milliseconds) in [
            ("300ms", 300),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 s",
            "10sec",
            "0s",
            "99999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_a_whole_number_and_at_most_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("10B", 10),
            ("64KiB", 65_536),
            ("16MiB", 16_777_216),
            ("1GiB", 1_073_741_824),
        ] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in [
            "",
            "MiB",
            "16MB",
            "1.5MiB",
            "16 MiB",
            "-1",
            "99999999999GiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for milliseconds in [1, 999, 1000, 1001, 60_000, 90_000, 7_200_000, 86_400_000] {
            let shown = show_milliseconds(milliseconds);
            assert_eq!(
                duration(&shown),
                Ok(Duration::from_millis(milliseconds)),
                "{shown}"
            );
        }
        for bytes in [0, 1, 1023, 1024, 16 << 20, (16 << 20) + 1, 3 << 30] {
            assert_eq!(size(&show_bytes(bytes)), Ok(bytes));
        }
        assert_eq!(show_milliseconds(90_000), "90s");
        assert_eq!(show_bytes(16 << 20), "16MiB");
    }

    #[test]
    fn moments_are_shown_in_the_gregorian_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_790_000_000, "2026-09-21 14:13:20 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(show_moment(seconds * 1000), shown);
        }
    }
}
