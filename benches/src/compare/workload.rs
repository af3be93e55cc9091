//! What is measured: the mixes of requests, the data they need, and the answers that all servers must give.

use super::request::{Argument, Ask, Place, drawn};
use super::system::Level;
use crate::load::keys::Distribution;
use crate::load::template::Key;

/// Sizes that a run may choose.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Sizes {
    /// Keys, accounts and players
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Bytes of a value; YCSB's have a thousand unless this is given
    #[arg(long)]
    pub value_bytes: Option<usize>,
    /// The share of reads in the workload `mixed`, in percent
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub read_share: u32,
    /// How keys are drawn; YCSB's are zipfian whatever this says
    #[arg(long, value_enum, default_value_t = Draw::Uniform)]
    pub keys_drawn: Draw,
}

/// A distribution, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Draw {
    /// Each key as often as every other
    Uniform,
    /// A few very often, with a constant of 0.99
    Zipfian,
}

/// What there must be before a workload begins.
#[derive(Clone, Debug)]
pub enum Data {
    /// Nothing.
    None,
    /// One request for each key.
    EachKey(Ask),
    /// A function that makes a thousand entries of a first number and a count.
    Thousands(&'static str),
    /// One request for each of so many keys.
    Groups(Ask, u64),
}

/// A workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// At which levels of durability it is measured.
    pub levels: &'static [Level],
    /// Requests that go together, and their share in percent.
    pub mix: Vec<(u32, Vec<Ask>)>,
    /// What must be there.
    pub data: Data,
    /// The numbers of keys that are drawn lie below this.
    pub domain: u64,
    /// How they are drawn.
    pub distribution: Distribution,
    /// Whether it calls functions.
    pub has_functions: bool,
    /// What is asked behind the requests of the mix, when answers are compared.
    pub check: Vec<Ask>,
}

const EVERYSEC: &[Level] = &[Level::Everysec];
const BOTH: &[Level] = &[Level::Everysec, Level::Always];

/// A JSON object of 64 bytes.
const SMALL_JSON: &str = r#"{"name":"Ann Lind","age":41,"mail":"anna@example.org","on":true}"#;

/// Groups of the workload `filter`, of a thousand values each.
const GROUPS: u64 = 100;

/// Every workload.
#[must_use]
pub fn all(sizes: &Sizes) -> Vec<Workload> {
    let mut workloads = plain(sizes);
    workloads.extend(ycsb(sizes));
    workloads.extend(functions(sizes));
    workloads
}

fn plain(sizes: &Sizes) -> Vec<Workload> {
    let value = value(sizes.value_bytes.unwrap_or(64));
    let get = || vec![Ask::Get(drawn("key:"))];
    let set = || vec![Ask::Set(drawn("key:"), value.clone())];
    let workload = |name, levels, mix| Workload {
        name,
        levels,
        mix,
        data: Data::EachKey(Ask::Set(drawn("key:"), value.clone())),
        domain: sizes.keys,
        distribution: match sizes.keys_drawn {
            Draw::Uniform => Distribution::Uniform,
            Draw::Zipfian => Distribution::Zipfian,
        },
        has_functions: false,
        check: get(),
    };
    let shares = (sizes.read_share, 100 - sizes.read_share);
    vec![
        workload("get", EVERYSEC, vec![(100, get())]),
        workload("set", BOTH, vec![(100, set())]),
        workload(
            "mixed",
            EVERYSEC,
            vec![(shares.0, get()), (shares.1, set())],
        ),
    ]
}

/// YCSB's core workloads. What differs from its own client: a record is one value instead of ten fields, and a scan
/// has 50 entries instead of 1 to 100.
fn ycsb(sizes: &Sizes) -> Vec<Workload> {
    let value = value(sizes.value_bytes.unwrap_or(1000));
    let place = |key| Place {
        prefix: "user:",
        key,
    };
    let read = || vec![Ask::Get(drawn("user:"))];
    let update = || vec![Ask::Set(drawn("user:"), value.clone())];
    let latest = || vec![Ask::Get(place(Key::Latest))];
    let insert = || vec![Ask::Set(place(Key::Inserted), value.clone())];
    let record = |key| Place {
        prefix: "record:",
        key,
    };
    let ordered = |key| Ask::Insert(record(key), value.clone());
    let scan = || vec![Ask::Scan(record(Key::Drawn), 50)];
    let change = || {
        vec![
            Ask::Get(drawn("user:")),
            Ask::Set(drawn("user:"), value.clone()),
        ]
    };
    let workload = |name, mix| Workload {
        name,
        levels: EVERYSEC,
        mix,
        data: Data::EachKey(Ask::Set(drawn("user:"), value.clone())),
        domain: sizes.keys,
        distribution: Distribution::Zipfian,
        has_functions: false,
        check: read(),
    };
    vec![
        workload("ycsb-a", vec![(50, read()), (50, update())]),
        workload("ycsb-b", vec![(95, read()), (5, update())]),
        workload("ycsb-c", vec![(100, read())]),
        workload("ycsb-d", vec![(95, latest()), (5, insert())]),
        Workload {
            data: Data::EachKey(ordered(Key::Drawn)),
            check: Vec::new(),
            ..workload(
                "ycsb-e",
                vec![(95, scan()), (5, vec![ordered(Key::Inserted)])],
            )
        },
        workload("ycsb-f", vec![(50, read()), (50, change())]),
    ]
}

fn functions(sizes: &Sizes) -> Vec<Workload> {
    let workload = |name, asks: Vec<Ask>| Workload {
        name,
        levels: EVERYSEC,
        mix: vec![(100, asks)],
        data: Data::None,
        domain: sizes.keys,
        distribution: match sizes.keys_drawn {
            Draw::Uniform => Distribution::Uniform,
            Draw::Zipfian => Distribution::Zipfian,
        },
        has_functions: true,
        check: Vec::new(),
    };
    let call = |name, arguments| workload(name, vec![Ask::Call(name, arguments)]);
    let another = Place {
        prefix: "acct:",
        key: Key::Another,
    };
    let order = vec![
        Argument::Key(drawn("acct:")),
        Argument::Key(another),
        Argument::Number(1),
    ];
    let balance = "1000000".to_owned();
    let group = || vec![Argument::Key(drawn("items:"))];
    vec![
        call("noop", vec![]),
        Workload {
            levels: BOTH,
            data: Data::EachKey(Ask::Set(drawn("acct:"), balance)),
            check: vec![Ask::Get(drawn("acct:")), Ask::Get(another)],
            ..call("transfer", order)
        },
        Workload {
            data: Data::EachKey(Ask::Set(drawn("count:"), "0".to_owned())),
            check: vec![Ask::Get(drawn("count:"))],
            ..call("incr", vec![Argument::Key(drawn("count:"))])
        },
        Workload {
            data: Data::Thousands("load_leaderboard"),
            // Scores are three times as far as players, and the last hundred have no hundred behind them.
            domain: (3 * sizes.keys).saturating_sub(300),
            ..call("leaderboard", vec![Argument::Key(drawn("board:"))])
        },
        call("validate", vec![Argument::Text(document())]),
        call("spin", vec![Argument::Number(12_345)]),
        Workload {
            data: Data::Groups(Ask::Call("load_filter", group()), GROUPS),
            domain: GROUPS,
            ..call("filter", group())
        },
        workload(
            "hook",
            vec![Ask::CheckedSet(drawn("hook:"), SMALL_JSON.to_owned())],
        ),
    ]
}

fn value(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// A JSON object of a kibibyte.
fn document() -> String {
    let mut text = String::from(r#"{"name":"Anna Lind","age":41,"orders":["#);
    let order = r#"{"article":"sled","count":2,"price":19.95,"paid":true,"note":null}"#;
    let mut orders = Vec::new();
    while text.len() + (orders.len() + 1) * (order.len() + 1) < 1000 {
        orders.push(order);
    }
    text += &orders.join(",");
    text += r#"],"pad":""#;
    text += &"-".repeat(1024 - text.len() - 2);
    text + r#""}"#
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_their_size() {
        assert_eq!(document().len(), 1024);
        assert!(serde_json::from_str::<serde_json::Value>(&document()).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(SMALL_JSON).is_ok());
        assert_eq!(SMALL_JSON.len(), 64);
    }

    #[test]
    fn names_are_unique_and_shares_are_whole() {
        let sizes = Sizes {
            keys: 1000,
            value_bytes: None,
            read_share: 0,
            keys_drawn: Draw::Uniform,
        };
        let workloads = all(&sizes);
        for workload in &workloads {
            let shares: u32 = workload.mix.iter().map(|(share, _)| share).sum();
            assert_eq!(shares, 100, "{}", workload.name);
            assert_eq!(
                workloads
                    .iter()
                    .filter(|it| it.name == workload.name)
                    .count(),
                1
            );
        }
    }
}
