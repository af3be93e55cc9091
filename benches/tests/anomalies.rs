//! Histories made by hand, one for each anomaly by its name, and some that are right.

use luge_benches::histories::{
    Anomaly, Figures, History, Operation, Outcome, Read, Seen, Write, check,
};

/// A history in the making. Operations overlap, unless they are told to follow one another.
#[derive(Default)]
struct Story(History);

impl Story {
    /// An operation on a connection of its own, beside all others.
    fn beside(self, sequence: u64, reads: Vec<Read>, writes: Vec<Write>) -> Self {
        self.at(0, 1_000, sequence, reads, writes)
    }

    /// An operation at this time; the sequence 0 stands for none.
    fn at(
        mut self,
        invoked: u64,
        completed: u64,
        sequence: u64,
        reads: Vec<Read>,
        writes: Vec<Write>,
    ) -> Self {
        let connection = self.0.operations.len();
        self.0.operations.push(Operation {
            connection,
            sequence: (sequence != 0).then_some(sequence),
            reads,
            writes,
            ..Operation::done("by hand", invoked, completed)
        });
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Operation)) -> Self {
        change(self.0.operations.last_mut().expect("an operation"));
        self
    }

    fn check(&self) -> Result<Figures, Anomaly> {
        check(&self.0)
    }

    #[track_caller]
    fn is(&self, name: &str) {
        assert_eq!(self.check().expect_err("an anomaly").name, name);
    }

    #[track_caller]
    fn is_right(&self) {
        if let Err(anomaly) = self.check() {
            panic!("{anomaly}");
        }
    }
}

fn saw(key: &str, value: u64) -> Read {
    Read::point(key, Seen::Value(value))
}

fn absent(key: &str) -> Read {
    Read::point(key, Seen::Absent)
}

fn range_without(key: &str) -> Read {
    Read::range(key, Seen::Absent)
}

fn wrote(key: &str, value: u64) -> Write {
    Write::value(key, value)
}

fn story() -> Story {
    Story::default()
}

#[test]
fn one_after_the_other_is_right() {
    story()
        .at(0, 1, 1, vec![absent("x")], vec![wrote("x", 1)])
        .at(2, 3, 2, vec![saw("x", 1)], vec![wrote("x", 2)])
        .at(4, 5, 3, vec![saw("x", 2)], vec![Write::deletion("x")])
        .at(6, 7, 0, vec![absent("x")], vec![])
        .at(8, 9, 4, vec![absent("x")], vec![wrote("x", 3)])
        .at(10, 11, 0, vec![saw("x", 3)], vec![])
        .is_right();
}

#[test]
fn a_reader_beside_writers_may_see_before_or_after() {
    for seen in [absent("x"), saw("x", 1), saw("x", 2)] {
        story()
            .beside(1, vec![], vec![wrote("x", 1)])
            .beside(2, vec![], vec![wrote("x", 2)])
            .beside(0, vec![seen], vec![])
            .is_right();
    }
}

#[test]
fn an_absence_may_be_any_that_fits_what_else_was_seen() {
    // x is absent twice, and only the second time is y there.
    story()
        .beside(1, vec![], vec![wrote("x", 1)])
        .beside(2, vec![], vec![Write::deletion("x")])
        .beside(3, vec![], vec![wrote("y", 1)])
        .beside(4, vec![], vec![wrote("x", 2)])
        .beside(0, vec![absent("x"), saw("y", 1)], vec![])
        .is_right();
}

#[test]
fn g0_dirty_write() {
    // x says that the first came first, y that the second did: readers were told so.
    let told = |key, value, version| saw(key, value).at(Some(version));
    story()
        .beside(0, vec![], vec![wrote("x", 1), wrote("y", 1)])
        .beside(0, vec![], vec![wrote("x", 2), wrote("y", 2)])
        .beside(0, vec![told("x", 1, 1)], vec![])
        .beside(0, vec![told("x", 2, 2)], vec![])
        .beside(0, vec![told("y", 2, 1)], vec![])
        .beside(0, vec![told("y", 1, 2)], vec![])
        .is("G0 (dirty write)");
}

#[test]
fn g0_in_real_time() {
    story()
        .at(0, 1, 2, vec![], vec![wrote("x", 1)])
        .at(2, 3, 1, vec![], vec![wrote("x", 2)])
        .is("G0 (dirty write) in real time");
}

#[test]
fn g1a_aborted_read() {
    story()
        .beside(0, vec![], vec![wrote("x", 1)])
        .last(|operation| operation.outcome = Outcome::Refused)
        .beside(0, vec![saw("x", 1)], vec![])
        .is("G1a (aborted read)");
}

#[test]
fn g1b_intermediate_read() {
    story()
        .beside(1, vec![], vec![wrote("x", 1), wrote("x", 2)])
        .beside(0, vec![saw("x", 1)], vec![])
        .is("G1b (intermediate read)");
}

#[test]
fn g1c_circular_information_flow() {
    story()
        .beside(1, vec![saw("y", 1)], vec![wrote("x", 1)])
        .beside(2, vec![saw("x", 1)], vec![wrote("y", 1)])
        .is("G1c (circular information flow)");
}

#[test]
fn lost_update() {
    story()
        .beside(1, vec![], vec![wrote("x", 1)])
        .beside(2, vec![saw("x", 1)], vec![wrote("x", 2)])
        .beside(3, vec![saw("x", 1)], vec![wrote("x", 3)])
        .is("lost update");
}

#[test]
fn lost_update_of_a_counter() {
    story()
        .beside(1, vec![absent("c")], vec![wrote("c", 1)])
        .beside(2, vec![absent("c")], vec![wrote("c", 1)])
        .is("lost update");
}

#[test]
fn g_single_read_skew() {
    story()
        .beside(1, vec![], vec![wrote("x", 1), wrote("y", 1)])
        .beside(2, vec![], vec![wrote("x", 2), wrote("y", 2)])
        .beside(0, vec![saw("x", 1), saw("y", 2)], vec![])
        .is("G-single (read skew)");
}

#[test]
fn a_read_that_changes_within_a_transaction() {
    story()
        .beside(1, vec![], vec![wrote("x", 1)])
        .beside(2, vec![], vec![wrote("x", 2)])
        .beside(0, vec![saw("x", 1), saw("x", 2)], vec![])
        .is("G-single (read skew)");
}

#[test]
fn g2_item_write_skew() {
    story()
        .beside(1, vec![], vec![wrote("x", 1), wrote("y", 1)])
        .beside(2, vec![saw("x", 1), saw("y", 1)], vec![wrote("x", 2)])
        .beside(3, vec![saw("x", 1), saw("y", 1)], vec![wrote("y", 2)])
        .is("G2-item (write skew)");
}

#[test]
fn g2_phantom() {
    // Both found the range empty, and both inserted.
    let empty = || vec![range_without("r:1"), range_without("r:2")];
    story()
        .beside(1, empty(), vec![wrote("r:1", 1)])
        .beside(2, empty(), vec![wrote("r:2", 2)])
        .is("G2 (phantom)");
}

#[test]
fn a_phantom_between_two_reads() {
    story()
        .beside(1, vec![], vec![wrote("r:1", 1), wrote("count", 1)])
        .beside(0, vec![range_without("r:1"), saw("count", 1)], vec![])
        .is("G-single of a range (phantom)");
}

#[test]
fn a_stale_read_is_one_in_real_time_only() {
    let stale = |invoked| {
        story()
            .at(0, 1, 1, vec![], vec![wrote("x", 1)])
            .at(2, 3, 2, vec![], vec![wrote("x", 2)])
            .at(invoked, 5, 0, vec![saw("x", 1)], vec![])
    };
    stale(4).is("G-single (read skew) in real time");
    stale(3).is_right();
}

#[test]
fn a_deleted_key_that_comes_back_is_a_stale_read() {
    story()
        .at(0, 1, 1, vec![], vec![wrote("x", 1)])
        .at(2, 3, 2, vec![saw("x", 1)], vec![Write::deletion("x")])
        .at(4, 5, 0, vec![saw("x", 1)], vec![])
        .is("G-single (read skew) in real time");
}

#[test]
fn a_connection_sees_its_own_writes() {
    // In a pipeline the read is asked for before the write is answered.
    story()
        .beside(1, vec![], vec![wrote("x", 1)])
        .beside(0, vec![absent("x")], vec![])
        .last(|operation| operation.connection = 0)
        .is("G-single (read skew) in session order");
}

#[test]
fn a_commit_whose_reads_are_not_those_before_it() {
    // Alone it could have come first; its sequence says that it did not.
    story()
        .beside(1, vec![], vec![wrote("x", 1)])
        .beside(2, vec![], vec![wrote("x", 2)])
        .beside(3, vec![saw("x", 1)], vec![wrote("y", 1)])
        .is("G-single (read skew) in commit order");
}

#[test]
fn garbage_read() {
    story()
        .beside(0, vec![saw("x", 9)], vec![])
        .is("garbage read");
}

#[test]
fn internal_inconsistency() {
    let text = "it had made x 1, and then saw nothing".to_owned();
    story()
        .beside(1, vec![], vec![wrote("x", 1)])
        .last(|operation| operation.contradictions.push(text))
        .is("internal inconsistency");
}

#[test]
fn torn_commit() {
    story()
        .beside(1, vec![], vec![wrote("x", 1)])
        .beside(0, vec![saw("x", 1).at(Some(2))], vec![])
        .is("torn commit");
}

#[test]
fn an_unknown_outcome_may_have_happened_or_not() {
    for seen in [absent("x"), saw("x", 1).at(Some(7))] {
        story()
            .at(0, 1, 0, vec![], vec![wrote("x", 1)])
            .last(|operation| operation.outcome = Outcome::Unknown)
            .at(2, 3, 0, vec![seen], vec![])
            .is_right();
    }
    // Once seen, it has happened.
    story()
        .at(0, 1, 0, vec![], vec![wrote("x", 1)])
        .last(|operation| operation.outcome = Outcome::Unknown)
        .at(2, 3, 0, vec![saw("x", 1).at(Some(7))], vec![])
        .at(4, 5, 0, vec![absent("x")], vec![])
        .is("G-single (read skew) in real time");
}

/// A value that is written at 0..10 and goes between 100 and 200.
fn expiring() -> Story {
    let write = Write {
        expires: Some((100, 200)),
        ..wrote("t", 1)
    };
    story().at(0, 10, 1, vec![], vec![write])
}

#[test]
fn a_key_goes_once_and_at_its_time() {
    expiring()
        .at(20, 30, 0, vec![saw("t", 1)], vec![])
        .at(110, 120, 0, vec![saw("t", 1)], vec![])
        .at(130, 140, 0, vec![absent("t")], vec![])
        .at(210, 220, 0, vec![absent("t")], vec![])
        .is_right();
}

#[test]
fn expiry_seen_backwards() {
    expiring()
        .at(110, 120, 0, vec![absent("t")], vec![])
        .at(130, 140, 0, vec![saw("t", 1)], vec![])
        .is("expiry: G-single (read skew) in real time");
}

#[test]
fn a_key_that_outlives_its_time() {
    expiring()
        .at(210, 220, 0, vec![saw("t", 1)], vec![])
        .is("expiry: G-single (read skew) in real time");
}

#[test]
fn a_key_that_is_gone_before_its_time() {
    expiring()
        .at(20, 30, 0, vec![absent("t")], vec![])
        .is("expiry: G1c (circular information flow) in real time");
}

#[test]
fn a_commit_that_judged_by_a_key_that_others_saw_expire() {
    expiring()
        .at(90, 190, 3, vec![saw("t", 1)], vec![wrote("x", 1)])
        .at(90, 190, 0, vec![absent("t"), absent("x")], vec![])
        .is("expiry: G2-item (write skew)");
}
