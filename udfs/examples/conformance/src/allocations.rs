//! Allocations of many sizes at once, each of which must keep what was written into it.

/// How many live at once.
const LIVE: usize = 64;

/// The largest, in bytes: more than a page.
const LARGEST: u64 = 100_000;

/// Allocates, grows and frees so many times; answers how many bytes there were in all, or which allocation was damaged.
pub(crate) fn run(rounds: u32) -> Result<u64, u32> {
    let mut live: Vec<Vec<u8>> = (0..LIVE).map(|_| Vec::new()).collect();
    let mut random = 1_u64;
    let mut total = 0;
    for round in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (place, scale) = ((random >> 33) as usize % LIVE, (random >> 40) % 17);
        let length = (((random >> 17) % LARGEST) >> scale) as usize;
        let tag = round.to_le_bytes()[0];
        let Some(kept) = live.get_mut(place) else {
            continue;
        };
        let first = kept.first().copied().unwrap_or_default();
        if kept.iter().any(|byte| *byte != first) {
            return Err(round);
        }
        match round % 3 {
            0 => *kept = vec![tag; length],
            1 => kept.resize(kept.len() + length / 8, first),
            _ => {
                kept.truncate(length);
                kept.shrink_to_fit();
            }
        }
        total += kept.len() as u64;
        // What grows without end is begun anew.
        if kept.len() as u64 > 2 * LARGEST {
            *kept = Vec::new();
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    #[test]
    fn they_keep_what_was_written_into_them() {
        assert!(super::run(10_000).is_ok_and(|total| total > 1_000_000));
    }
}
