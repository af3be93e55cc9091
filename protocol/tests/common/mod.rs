//! Golden frames: the cases, and the files that keep them as commented hexadecimal.

#![allow(
    dead_code,
    reason = "each test binary uses another part of what they share"
)]

pub(crate) mod annotate;
pub(crate) mod cases;
pub(crate) mod replies;

use std::path::PathBuf;

/// A frame that the code and a file in `golden/` must agree on.
pub(crate) struct Case {
    /// The file's name without `.hex`: `command.request`, `command.reply`, `error.code`.
    pub(crate) name: String,
    /// The body, as the code encodes it.
    pub(crate) body: Vec<u8>,
    /// Decodes a body as what this case is, and encodes it again.
    pub(crate) recode: Recode,
}

type Recode = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, String>>;

/// Where the golden file of this name lies.
pub(crate) fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.hex"))
}

/// The bytes of commented hexadecimal: `#` begins a comment, whitespace means nothing.
pub(crate) fn parse_hex(text: &str) -> Vec<u8> {
    text.lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
        .collect()
}

/// A body with its header.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("test bodies are short");
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}
