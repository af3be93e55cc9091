use crate::support::{check, check_with};

#[test]
fn set_get_and_del_tell_versions() {
    check(
        &[],
        r#"
        > set a 1
        v1
        > set a 2 --old
        v2 was 1
        > get a
        2 v2
        > get b
        nil
        > del a b
        deleted 1
        > get a
        nil
        > set a ""
        v4
        > get a
        "" v4
    "#,
    );
}

#[test]
fn conditions_hold_or_nothing_happens() {
    check(
        &[],
        r"
        > set a 1 --if present
        precondition_failed: the key is absent, and should be present
        > set a 1 --if absent
        v1
        > set a 2 --if absent
        precondition_failed: the key is of version 1, and should be absent
        > set a 2 --if 7
        precondition_failed: the key is of version 1, and should be of version 7
        > set a 2 --if 0
        precondition_failed: the key is of version 1, and should be absent
        > set a 2 --if 1
        v2
        > set b 1 --if 0
        v3
        > get a
        2 v2
    ",
    );
}

#[test]
fn a_time_to_live_ends_everywhere_at_once() {
    check(
        &[],
        r"
        > set a 1 --ttl 1000
        v1
        > set b 2
        v2
        > ttl a
        1000ms
        > ttl b
        none
        > ttl c
        nil
        ~ 999ms
        > get a
        1 v1
        > scan
        a=1 b=2
        ~ 1ms
        > get a
        nil
        > exists a b
        1
        > scan
        b=2
        > ttl a
        nil
        > del a
        deleted 0
        > set a again --if absent
        v3
    ",
    );
}

#[test]
fn a_time_to_live_can_be_kept_changed_and_taken_away() {
    check(
        &[],
        r"
        > set a 1 --ttl 1000
        v1
        > set a 2 --keep-ttl
        v2
        > ttl a
        1000ms
        > incr a 5
        7 v3
        > ttl a
        1000ms
        > expire a 50
        true
        > ttl a
        50ms
        > persist a
        true
        > persist a
        false
        > ttl a
        none
        > expire missing 10
        false
        > set a 3 --ttl 10
        v6
        > set a 4
        v7
        > ttl a
        none
        > set a 1 --ttl 0
        bad_request: a time to live of 0 ms is none; use at least 1, or `persist` to take it away
        > set a 1 --ttl 5 --keep-ttl
        bad_request: `ttl_ms` and `keep_ttl` exclude each other
    ",
    );
}

#[test]
fn incr_counts_and_refuses_what_is_no_number() {
    check(
        &[],
        r"
        > incr n
        1 v1
        > incr n -3
        -2 v2
        > set n 9223372036854775807
        v3
        > incr n
        bad_request: 9223372036854775807 plus 1 does not fit into 64 bits with a sign
        > set n 007
        v4
        > incr n
        bad_request: the value …
        > get n
        007 v4
    ",
    );
}

#[test]
fn scans_go_both_ways_and_page_by_cursor() {
    check(
        &[],
        r"
        > batch set a 1; set b 2; set c 3; set d 4
        v1, v1, v1, v1
        > scan --limit 3
        a=1 b=2 c=3 next c
        > scan --limit 3 --cursor c
        d=4
        > scan --reverse --limit 2
        d=4 c=3 next c
        > scan --reverse --limit 2 --cursor c
        b=2 a=1
        > scan --range b d --keys
        b c
        > scan --range b --keys
        b c d
        > scan c
        c=3
        > scan z
        nothing
        > scan --limit 0
        bad_request: a limit of 0 is outside of 1 to 10000 (`max_page_entries`)
    ",
    );
}

#[test]
fn prefixes_of_high_bytes_have_an_end() {
    check(
        &[],
        r"
        > set a 1
        v1
        > set ÿ 2
        v2
        > set ÿÿ 3
        v3
        > scan ÿ
        \xc3\xbf=2 \xc3\xbf\xc3\xbf=3
    ",
    );
}

#[test]
fn a_range_is_deleted_in_bounded_steps() {
    check(
        &[],
        r"
        > batch set a 1; set b 2; set c 3; set d 4
        v1, v1, v1, v1
        > del --range a d --limit 2
        deleted 2 next b\x00
        > del --range b d
        deleted 1
        > scan
        d=4
    ",
    );
}

#[test]
fn a_batch_is_all_or_nothing_and_reads_its_own_writes() {
    check(
        &[],
        r"
        > set stock 5
        v1
        > batch get stock; incr stock -2; get stock; set note x; del note stock gone; get stock
        5 v1, 3 v2, 3 v2, v2, 2, nil
        > batch set a 1; check stock --if present; set b 1
        precondition_failed: the key is absent, and should be present
        > mget a b stock
        nil, nil, nil
        > batch check stock --if absent; set a 1 --ttl 10; expire a 20; persist a
        ok, v3, true, true
        > ttl a
        none
    ",
    );
}

#[test]
fn bad_keys_and_values_are_refused_by_size() {
    let long = "k".repeat(1025);
    check(
        &[],
        &format!(
            r#"
        > get ""
        bad_request: a key has at least 1 byte
        > get {long}
        too_large: key of 1025 bytes exceeds the limit of 1024 (`max_key_bytes`)
    "#
        ),
    );
    check_with(
        &[],
        |config| config.max_value_bytes = 3,
        r"
        > set a abcd
        too_large: value of 4 bytes exceeds the limit of 3 (`max_value_bytes`)
        > set a abc
        v1
    ",
    );
}

#[test]
fn a_transaction_that_writes_too_much_changes_nothing() {
    check_with(
        &[],
        |config| config.call_write_keys = 2,
        r"
        > batch set a 1; set b 2; set a 3; set c 4
        too_large: the transaction would write 3 keys, and may write 2
        > scan
        nothing
        > batch set a 1; set b 2; set a 3
        v1, v1, v1
        > scan
        a=3 b=2
    ",
    );
}

#[test]
fn sessions_see_each_others_acknowledged_writes_at_once() {
    check(
        &[],
        r"
        alice> set a 1
        v1
        bob> get a
        1 v1
        bob> incr a
        2 v2
        alice> get a
        2 v2
    ",
    );
}

#[test]
fn large_values_come_back_whole() {
    let value = "x".repeat(200_000);
    check(
        &[],
        &format!(
            "
        > set big {value}
        v1
        > get big
        {value} v1
        > set big small
        v2
        > get big
        small v2
        > flush
        ok
    "
        ),
    );
}

/// The message of a condition on a key that the batch had written itself contradicted itself.
#[test]
fn a_condition_tells_that_the_batch_itself_wrote_the_key() {
    check(
        &[],
        "
        > batch set k v; check k --if absent
        precondition_failed: the key is written by this request, and should be absent
    ",
    );
}
