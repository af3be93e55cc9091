//! Whether memory is all zeros. An instance that is set back is read for that from end to end, which is most of what a fresh
//! call costs beyond a kept one, so it is read as wide as the processor can: 64 KiB in 0.7 µs, in place of 1.0 µs as a
//! comparison with zeros.

/// What is joined side by side: as wide as the registers of AVX2 are many.
const STEP_BYTES: usize = 256;
const WORD_BYTES: usize = size_of::<u64>();

/// Whether all of it is zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(
            unsafe_code,
            reason = "the compiler can't know what processor it runs on"
        )]
        // SAFETY: it needs a processor with AVX2, which this one was just found to be.
        return unsafe { is_zero_by_avx2(bytes) };
    }
    has_no_bits(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn is_zero_by_avx2(bytes: &[u8]) -> bool {
    has_no_bits(bytes)
}

/// Joins words side by side, so that the compiler does it by vectors, as wide as whoever has this in it may.
#[inline(always)]
fn has_no_bits(bytes: &[u8]) -> bool {
    let (steps, rest) = bytes.as_chunks::<STEP_BYTES>();
    let mut bits = [0; STEP_BYTES / WORD_BYTES];
    for step in steps {
        let (words, _) = step.as_chunks::<WORD_BYTES>();
        for (bits, word) in bits.iter_mut().zip(words) {
            *bits |= u64::from_ne_bytes(*word);
        }
    }
    bits.iter().all(|bits| *bits == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        let mut bytes = vec![0; 2 * STEP_BYTES + 5];
        for length in 0..=bytes.len() {
            assert!(is_zero(&bytes[..length]));
        }
        for at in 0..bytes.len() {
            for bit in [1, 128] {
                bytes[at] = bit;
                assert!(!is_zero(&bytes) && !has_no_bits(&bytes), "{bit} at {at}");
                assert!(is_zero(&bytes[..at]) && is_zero(&bytes[at + 1..]));
            }
            bytes[at] = 0;
        }
    }
}
