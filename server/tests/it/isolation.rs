//! The anomalies of the literature, each by its name, on both stores: transactions interleaved by
//! hand, so that each test is one history and nothing else.

use bytes::Bytes;
use luge_server::store::{CommitOutcome, PageLimit, ReadPoint, Store};
use luge_server::transaction::{Live, Scan, ScanOrder, TimeToLive, Transaction, WriteLimits};

use crate::support::{fold, on_both_stores};

const LIMITS: WriteLimits = WriteLimits {
    keys: 100,
    bytes: 1 << 20,
};
const PAGE: PageLimit = PageLimit {
    rows: 100,
    bytes: 1 << 20,
};

type Open<S> = Transaction<<S as Store>::Snapshot>;

async fn begin<S: Store>(store: &S) -> Open<S> {
    Transaction::new(store.begin(ReadPoint::Newest).await.unwrap(), LIMITS)
}

async fn get<S: Store>(transaction: &mut Open<S>, key: &str) -> Option<String> {
    let live = transaction.get(key.as_bytes()).await.unwrap();
    live.map(|Live { value, .. }| String::from_utf8(value.to_vec()).unwrap())
}

async fn set<S: Store>(transaction: &mut Open<S>, key: &str, value: &str) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    transaction
        .set(key.as_bytes(), value, TimeToLive::Forever)
        .await
        .unwrap();
}

async fn scan<S: Store>(transaction: &mut Open<S>, start: &str, end: &str) -> Vec<String> {
    let mut scan = Scan::new(
        start.as_bytes(),
        end.as_bytes(),
        ScanOrder::Ascending,
        false,
    );
    let mut rows = Vec::new();
    while !scan.is_done() {
        rows.extend(transaction.scan(&mut scan, PAGE).await.unwrap());
    }
    rows.iter()
        .map(|(key, _)| String::from_utf8(key.to_vec()).unwrap())
        .collect()
}

async fn commit<S: Store>(store: &S, transaction: Open<S>) -> bool {
    if !transaction.has_writes() {
        return true;
    }
    let (snapshot, commit) = transaction.into_commit(true);
    matches!(
        store.commit(snapshot, commit).await.unwrap(),
        CommitOutcome::Committed(_)
    )
}

async fn put<S: Store>(store: &S, key: &str, value: &str) {
    let mut transaction = begin(store).await;
    set::<S>(&mut transaction, key, value).await;
    assert!(commit(store, transaction).await);
    fold(store).await;
}

on_both_stores!(lost_update, |store, _clock| {
    put(store, "x", "10").await;
    let (mut one, mut two) = (begin(store).await, begin(store).await);
    assert_eq!(get::<S>(&mut one, "x").await.as_deref(), Some("10"));
    assert_eq!(get::<S>(&mut two, "x").await.as_deref(), Some("10"));
    set::<S>(&mut one, "x", "11").await;
    set::<S>(&mut two, "x", "12").await;
    assert!(commit(store, one).await);
    assert!(!commit(store, two).await);
    assert_eq!(
        get::<S>(&mut begin(store).await, "x").await.as_deref(),
        Some("11")
    );
});

on_both_stores!(write_skew, |store, _clock| {
    put(store, "x", "1").await;
    put(store, "y", "1").await;
    let (mut one, mut two) = (begin(store).await, begin(store).await);
    for transaction in [&mut one, &mut two] {
        get::<S>(transaction, "x").await;
        get::<S>(transaction, "y").await;
    }
    set::<S>(&mut one, "x", "0").await;
    set::<S>(&mut two, "y", "0").await;
    assert!(commit(store, one).await);
    assert!(!commit(store, two).await);
});

on_both_stores!(phantom_in_an_empty_range, |store, _clock| {
    let (mut one, mut two) = (begin(store).await, begin(store).await);
    assert!(scan::<S>(&mut one, "a", "b").await.is_empty());
    assert!(scan::<S>(&mut two, "a", "b").await.is_empty());
    set::<S>(&mut one, "a1", "x").await;
    set::<S>(&mut two, "a2", "x").await;
    assert!(commit(store, one).await);
    assert!(!commit(store, two).await);
});

on_both_stores!(phantom_of_an_absent_key, |store, _clock| {
    let (mut one, mut two) = (begin(store).await, begin(store).await);
    assert_eq!(get::<S>(&mut one, "x").await, None);
    assert_eq!(get::<S>(&mut two, "x").await, None);
    set::<S>(&mut one, "x", "1").await;
    set::<S>(&mut two, "y", "1").await;
    assert!(commit(store, one).await);
    assert!(!commit(store, two).await);
});

// A guest whose buffer is too small for the next entry is told how large it is.
on_both_stores!(a_row_that_was_refused_was_read, |store, _clock| {
    put(store, "a1", "1").await;
    let mut reader = begin(store).await;
    let mut all = Scan::new(b"a", b"b", ScanOrder::Ascending, false);
    reader
        .visit(&mut all, PAGE, |_, value| value.len() > 1)
        .await
        .unwrap();
    assert!(!all.is_done());
    set::<S>(&mut reader, "x", "read").await;
    put(store, "a1", "2").await;
    assert!(!commit(store, reader).await);
});

on_both_stores!(
    a_visit_conflicts_up_to_the_row_that_it_refused_whose_size_is_known_and_not_behind_it,
    |store, _clock| {
        for key in ["a1", "a2", "a3"] {
            put(store, key, key).await;
        }
        for (changed, commits) in [("a3", true), ("a2", false), ("a11", false)] {
            let mut reader = begin(store).await;
            let mut all = Scan::new(b"a", b"b", ScanOrder::Ascending, false);
            let take = |key: &[u8], _: &[u8]| key == b"a1";
            reader.visit(&mut all, PAGE, take).await.unwrap();
            set::<S>(&mut reader, "x", "read").await;
            put(store, changed, "changed").await;
            assert_eq!(commit(store, reader).await, commits, "{changed}");
        }
    }
);

on_both_stores!(
    a_scan_that_stopped_early_conflicts_only_where_it_looked,
    |store, _clock| {
        for key in ["a", "b", "c", "d"] {
            put(store, key, "1").await;
        }
        let mut reader = begin(store).await;
        let mut first = Scan::new(b"a", b"", ScanOrder::Ascending, false);
        let page = PageLimit {
            rows: 2,
            bytes: 1 << 20,
        };
        assert_eq!(reader.scan(&mut first, page).await.unwrap().len(), 2);
        set::<S>(&mut reader, "z", "1").await;
        put(store, "c", "2").await;
        assert!(
            commit(store, reader).await,
            "c lies behind what was looked at"
        );
        let mut reader = begin(store).await;
        let mut first = Scan::new(b"a", b"", ScanOrder::Ascending, false);
        reader.scan(&mut first, page).await.unwrap();
        set::<S>(&mut reader, "z", "1").await;
        put(store, "aa", "2").await;
        assert!(
            !commit(store, reader).await,
            "aa lies between the rows that were seen"
        );
    }
);

on_both_stores!(read_skew, |store, _clock| {
    put(store, "x", "old").await;
    put(store, "y", "old").await;
    let mut reader = begin(store).await;
    assert_eq!(get::<S>(&mut reader, "x").await.as_deref(), Some("old"));
    let mut writer = begin(store).await;
    set::<S>(&mut writer, "x", "new").await;
    set::<S>(&mut writer, "y", "new").await;
    assert!(commit(store, writer).await);
    assert_eq!(get::<S>(&mut reader, "y").await.as_deref(), Some("old"));
    assert_eq!(scan::<S>(&mut reader, "", "").await, ["x", "y"]);
    assert!(
        commit(store, reader).await,
        "a transaction that only reads never conflicts"
    );
});

on_both_stores!(fractured_read, |store, _clock| {
    let mut writer = begin(store).await;
    set::<S>(&mut writer, "x", "1").await;
    set::<S>(&mut writer, "y", "1").await;
    let mut before = begin(store).await;
    assert!(commit(store, writer).await);
    let mut after = begin(store).await;
    assert_eq!(get::<S>(&mut before, "x").await, None);
    assert_eq!(get::<S>(&mut before, "y").await, None);
    assert!(get::<S>(&mut after, "x").await.is_some() && get::<S>(&mut after, "y").await.is_some());
});

on_both_stores!(long_fork, |store, _clock| {
    let mut first = begin(store).await;
    put(store, "x", "1").await;
    let mut second = begin(store).await;
    put(store, "y", "1").await;
    let mut third = begin(store).await;
    let seen = |x: Option<String>, y: Option<String>| (x.is_some(), y.is_some());
    assert_eq!(
        seen(
            get::<S>(&mut first, "x").await,
            get::<S>(&mut first, "y").await
        ),
        (false, false)
    );
    assert_eq!(
        seen(
            get::<S>(&mut second, "x").await,
            get::<S>(&mut second, "y").await
        ),
        (true, false)
    );
    assert_eq!(
        seen(
            get::<S>(&mut third, "x").await,
            get::<S>(&mut third, "y").await
        ),
        (true, true)
    );
});

on_both_stores!(stale_read_after_an_acknowledgement, |store, _clock| {
    for number in 0..20 {
        let mut writer = begin(store).await;
        set::<S>(&mut writer, "x", &number.to_string()).await;
        let (snapshot, commit) = writer.into_commit(true);
        let CommitOutcome::Committed(sequence) = store.commit(snapshot, commit).await.unwrap()
        else {
            panic!("a blind write conflicts with nothing")
        };
        store.acked(sequence).await.unwrap();
        // Another connection, which has written nothing, reads what is acked.
        let snapshot = store.begin(ReadPoint::Acked(0)).await.unwrap();
        let mut reader: Open<S> = Transaction::new(snapshot, LIMITS);
        assert_eq!(get::<S>(&mut reader, "x").await, Some(number.to_string()));
    }
});

on_both_stores!(expiry_is_never_seen_backwards, |store, clock| {
    let mut writer = begin(store).await;
    writer
        .set(b"x", Bytes::from_static(b"1"), TimeToLive::For(100))
        .await
        .unwrap();
    assert!(commit(store, writer).await);
    let mut early = begin(store).await;
    clock.advance(100);
    let mut late = begin(store).await;
    assert_eq!(get::<S>(&mut late, "x").await, None);
    // The earlier transaction still sees it, and so may not write after its end.
    assert_eq!(get::<S>(&mut early, "x").await.as_deref(), Some("1"));
    set::<S>(&mut early, "y", "x was there").await;
    assert!(!commit(store, early).await);
});

on_both_stores!(what_a_savepoint_undid_stays_read, |store, _clock| {
    let mut one = begin(store).await;
    let savepoint = one.savepoint();
    get::<S>(&mut one, "x").await;
    set::<S>(&mut one, "x", "undone").await;
    one.undo_to(savepoint);
    assert_eq!(get::<S>(&mut one, "x").await, None);
    set::<S>(&mut one, "y", "1").await;
    put(store, "x", "other").await;
    assert!(!commit(store, one).await);
});

on_both_stores!(blind_writes_never_conflict, |store, _clock| {
    let (mut one, mut two) = (begin(store).await, begin(store).await);
    set::<S>(&mut one, "x", "1").await;
    set::<S>(&mut two, "x", "2").await;
    assert!(commit(store, one).await);
    assert!(commit(store, two).await);
    assert_eq!(
        get::<S>(&mut begin(store).await, "x").await.as_deref(),
        Some("2")
    );
});

// A page of sled may hold nothing but keys that are too new for the snapshot. The scan took such an
// empty page for the end of the range, and older keys behind it were missing.
on_both_stores!(
    a_page_of_keys_that_are_all_too_new_is_not_the_end,
    |store, _clock| {
        put(store, "z", "old").await;
        let mut early = begin(store).await;
        for key in ["a", "b", "c"] {
            put(store, key, "new").await;
        }
        let mut whole = Scan::new(b"", b"", ScanOrder::Ascending, false);
        let mut found = Vec::new();
        while !whole.is_done() {
            let page = PageLimit {
                rows: 2,
                bytes: 1 << 20,
            };
            found.extend(early.scan(&mut whole, page).await.unwrap());
        }
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "z");
    }
);

on_both_stores!(write_skew_over_ranges, |store, _clock| {
    put(store, "a1", "1").await;
    put(store, "b1", "1").await;
    let (mut one, mut two) = (begin(store).await, begin(store).await);
    assert_eq!(scan::<S>(&mut one, "a", "b").await, ["a1"]);
    assert_eq!(scan::<S>(&mut two, "b", "c").await, ["b1"]);
    set::<S>(&mut one, "b2", "1").await;
    set::<S>(&mut two, "a1", "2").await;
    assert!(commit(store, one).await);
    assert!(!commit(store, two).await, "b2 lies in the range it read");
});

on_both_stores!(phantom_of_a_deleted_key, |store, _clock| {
    put(store, "a1", "1").await;
    let mut reader = begin(store).await;
    assert_eq!(scan::<S>(&mut reader, "a", "b").await, ["a1"]);
    set::<S>(&mut reader, "sum", "1").await;
    let mut writer = begin(store).await;
    writer.delete(b"a1").await.unwrap();
    assert!(commit(store, writer).await);
    assert!(!commit(store, reader).await);
});

on_both_stores!(
    a_connection_reads_its_own_write_before_it_is_acked,
    |store, _clock| {
        put(store, "x", "old").await;
        let mut writer = begin(store).await;
        set::<S>(&mut writer, "x", "new").await;
        let (snapshot, commit) = writer.into_commit(true);
        let CommitOutcome::Committed(sequence) = store.commit(snapshot, commit).await.unwrap()
        else {
            panic!("a blind write conflicts with nothing")
        };
        let snapshot = store.begin(ReadPoint::Acked(sequence)).await.unwrap();
        let mut reader: Open<S> = Transaction::new(snapshot, LIMITS);
        assert_eq!(get::<S>(&mut reader, "x").await.as_deref(), Some("new"));
    }
);

on_both_stores!(aborted_read, |store, _clock| {
    put(store, "x", "old").await;
    let mut aborted = begin(store).await;
    set::<S>(&mut aborted, "x", "aborted").await;
    let mut reader = begin(store).await;
    drop(aborted);
    assert_eq!(get::<S>(&mut reader, "x").await.as_deref(), Some("old"));
    assert_eq!(
        get::<S>(&mut begin(store).await, "x").await.as_deref(),
        Some("old")
    );
});

on_both_stores!(
    a_transaction_that_only_reads_neither_conflicts_nor_blocks_writers,
    |store, _clock| {
        put(store, "x", "0").await;
        let mut reader = begin(store).await;
        assert_eq!(get::<S>(&mut reader, "x").await.as_deref(), Some("0"));
        for number in 1..=5 {
            // The writers' answers need no more than their own commits.
            put(store, "x", &number.to_string()).await;
            put(store, "y", "new").await;
            store.acked(store.visible()).await.unwrap();
            assert_eq!(get::<S>(&mut reader, "x").await.as_deref(), Some("0"));
            assert_eq!(scan::<S>(&mut reader, "", "").await, ["x"]);
        }
        assert!(commit(store, reader).await);
    }
);
