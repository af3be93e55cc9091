//! Bytes as the cases write them: text, `hex:00ff`, or `repeat:5000:x`.

pub(crate) fn parse(notation: &str) -> Vec<u8> {
    if let Some(digits) = notation.strip_prefix("hex:") {
        let pairs = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).unwrap_or_default());
        return pairs
            .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
            .collect();
    }
    match notation
        .strip_prefix("repeat:")
        .and_then(|repeat| repeat.split_once(':'))
    {
        Some((count, text)) => text.repeat(count.parse().unwrap_or_default()).into_bytes(),
        None => notation.as_bytes().to_vec(),
    }
}

/// The same bytes as text, or as `hex:` where they are none.
pub(crate) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
            let digits = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
            "hex:".chars().chain(digits).collect()
        }
    }
}
