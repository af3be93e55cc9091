//! How many instances the kernel lets the server have: each takes mappings, of which a process may have so many.

use std::path::Path;

/// The mappings of an instance at work: two for its stack, which are there from the start, and four for its memory
/// (its image, what follows, what it may not touch, and the rest of its slot).
const MAPPINGS_PER_INSTANCE: u64 = 6;

/// What everything else takes: the program, its threads, the store's files, and the code of a thousand modules.
const OTHER_MAPPINGS: u64 = 4_096;

/// Where Linux tells its bound.
const LIMIT_FILE: &str = "/proc/sys/vm/max_map_count";

/// The mappings that a process may have; none where the operating system has no such bound, or does not tell it.
pub(super) fn mapping_limit() -> Option<u64> {
    let text = std::fs::read_to_string(Path::new(LIMIT_FILE)).ok()?;
    text.trim().parse().ok()
}

/// How many instances there is room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// So many.
    pub instances: u32,
    /// Whether more are wanted.
    pub is_cut: bool,
    told: String,
}

impl std::fmt::Display for Room {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.told)
    }
}

impl Room {
    /// For so many instances, where a process may have so many mappings.
    pub(super) fn new(wanted: u32, mapping_limit: Option<u64>) -> Self {
        let Some(limit) = mapping_limit else {
            let told = format!("room for {wanted} instances at once (max_instances)");
            return Self::of(wanted, false, told);
        };
        let most = limit.saturating_sub(OTHER_MAPPINGS) / MAPPINGS_PER_INSTANCE;
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        if wanted <= most {
            let told = format!(
                "room for {wanted} instances at once (max_instances); the kernel's limit of {limit} mappings (vm.max_map_count) allows {most}"
            );
            return Self::of(wanted, false, told);
        }
        let needed = u64::from(wanted) * MAPPINGS_PER_INSTANCE + OTHER_MAPPINGS;
        let told = format!(
            "room for {most} instances at once, and not for the {wanted} of max_instances: the kernel's limit of {limit} mappings (vm.max_map_count) allows no more; `sysctl -w vm.max_map_count={needed}` before the start allows {wanted}"
        );
        Self::of(most, true, told)
    }

    /// What is left of a part of the instances that are wanted: the same share of those that there are.
    pub(super) fn share_of(&self, part: usize, wanted: u32) -> usize {
        let share = part as u128 * u128::from(self.instances) / u128::from(wanted.max(1));
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    fn of(instances: u32, is_cut: bool, told: String) -> Self {
        Self {
            instances,
            is_cut,
            told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Room;

    #[test]
    fn the_usual_limit_of_linux_has_room_for_ten_thousand() {
        let room = Room::new(10_000, Some(65_530));
        assert_eq!((room.instances, room.is_cut), (10_000, false));
        assert!(room.to_string().contains("allows 10239"), "{room}");
    }

    #[test]
    fn more_than_the_kernel_allows_is_cut_and_told_with_what_to_set() {
        let room = Room::new(20_000, Some(65_530));
        assert_eq!((room.instances, room.is_cut), (10_239, true));
        assert!(
            room.to_string().contains("vm.max_map_count=124096"),
            "{room}"
        );
        assert_eq!(room.share_of(12_000, 20_000), 6_143);
        assert_eq!(Room::new(20_000, Some(124_096)).instances, 20_000);
    }

    #[test]
    fn where_there_is_no_limit_all_are_made() {
        assert_eq!(Room::new(50_000, None).instances, 50_000);
        assert_eq!(Room::new(5, Some(0)).instances, 1);
    }
}
