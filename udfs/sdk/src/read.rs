//! The one loop behind everything that is read from the host.

/// Most keys, values and settings fit, and take one host call; longer ones take a second.
const FIRST_READ_BYTES: usize = 256;

/// Reads the whole of what a reader of [`crate::raw`] gives, or nothing where it is absent.
pub(crate) fn read(mut reader: impl FnMut(u32, &mut [u8]) -> i64) -> Option<Vec<u8>> {
    read_all(&mut reader)
}

/// Not generic, so that it is in the module once.
fn read_all(reader: &mut dyn FnMut(u32, &mut [u8]) -> i64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; FIRST_READ_BYTES];
    let length = usize::try_from(reader(0, &mut bytes)).ok()?;
    bytes.resize(length, 0);
    if let Some(rest @ [_, ..]) = bytes.get_mut(FIRST_READ_BYTES..) {
        #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
        let _whole_length = reader(FIRST_READ_BYTES as u32, rest);
    }
    Some(bytes)
}

/// The same as text; bytes that are no UTF-8 become replacement characters.
pub(crate) fn text(reader: impl FnMut(u32, &mut [u8]) -> i64) -> Option<String> {
    read(reader).map(lossy)
}

pub(crate) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
