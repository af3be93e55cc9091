//! Numbers as decimal text, the form in which the server keeps them, without any formatting machinery.

/// Reads a number as `kv_incr` does: within 64 bits, and as [`format()`] writes it, so without a plus, spaces or
/// leading zeros.
///
/// ```
/// assert_eq!(luge_udf::decimal::parse(b"-12"), Some(-12));
/// assert_eq!(luge_udf::decimal::parse(b"012"), None);
/// ```
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    digits.iter().try_fold(0_i64, |number, byte| {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        let number = number.checked_mul(10)?;
        match (digit, negative) {
            (10.., _) => None,
            (_, true) => number.checked_sub(digit),
            (_, false) => number.checked_add(digit),
        }
    })
}

/// Writes a number as text.
///
/// ```
/// assert_eq!(luge_udf::decimal::format(-12), "-12");
/// ```
#[must_use]
pub fn format(number: i64) -> String {
    let mut digits = Vec::with_capacity(20);
    let mut left = number.unsigned_abs();
    loop {
        digits.push(char::from(b'0' + (left % 10) as u8));
        left /= 10;
        if left == 0 {
            break;
        }
    }
    digits.extend((number < 0).then_some('-'));
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_go_there_and_back() {
        for number in [0, 7, -7, 10, 1_234_567_890, i64::MAX, i64::MIN] {
            assert_eq!(super::format(number), number.to_string());
            assert_eq!(super::parse(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "-0",
            "007",
            " 1",
            "1 ",
            "1.5",
            "abc",
            "9223372036854775808",
            "0x10",
        ] {
            assert_eq!(super::parse(text.as_bytes()), None, "{text}");
        }
    }
}
