//! Whether a history is strictly serializable, and what is wrong with it if it is not.

use std::collections::HashMap;
use std::fmt;

use super::graph::{Graph, Kind, Kinds, Step};
use super::history::{History, Moment, Outcome};
use super::versions::Versions;

/// What can't be in a strictly serializable history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Its name, such as `G2-item (write skew)`.
    pub name: String,
    /// How it came about, a sentence a line.
    pub story: Vec<String>,
}

/// What a history that was checked has in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Reads whose version is known.
    pub reads: usize,
    /// Reads that a later commit replaced while they could still matter: the chances for an anomaly.
    pub replaced_reads: usize,
}

const WRITES: Kinds = Kind::WriteWrite as Kinds;
const FLOW: Kinds = WRITES | Kind::WriteRead as Kinds;
const REPLACED: Kinds = Kind::ReadWrite as Kinds | Kind::RangeWrite as Kinds;

/// What may order operations besides what they read and wrote, weakest first.
const ORDERS: [(Kinds, &str); 4] = [
    (0, ""),
    (Kind::Session as Kinds, " in session order"),
    (
        Kind::Session as Kinds | Kind::RealTime as Kinds,
        " in real time",
    ),
    (
        Kind::Session as Kinds | Kind::RealTime as Kinds | Kind::CommitOrder as Kinds,
        " in commit order",
    ),
];

/// Checks a history.
///
/// # Errors
/// The anomaly that is the easiest to understand.
pub fn check(history: &History) -> Result<Figures, Anomaly> {
    let mut versions = Versions::new(history);
    if !versions.anomalies.is_empty() {
        return Err(versions.anomalies.swap_remove(0));
    }
    let mut order = Order::new(history, &versions);
    order.link_versions();
    order.link_sessions();
    order.link_real_time();
    order.link_commits();
    let figures = Figures {
        reads: versions.reads.len(),
        replaced_reads: order.graph.count(REPLACED),
    };
    if order.graph.cycle(Kinds::MAX, 0).is_some()
        && let Some(anomaly) = order.weakest_cycle()
    {
        return Err(anomaly);
    }
    match versions.misplaced.pop() {
        Some(anomaly) => Err(anomaly),
        None => Ok(figures),
    }
}

/// Who must come before whom. The first nodes are the operations, by their numbers.
struct Order<'a> {
    history: &'a History,
    versions: &'a Versions,
    graph: Graph,
    /// Nodes that stand for the expiry of a key: the key, and the moments between which it happens.
    expiries: HashMap<usize, (u32, (Moment, Moment))>,
}

impl<'a> Order<'a> {
    fn new(history: &'a History, versions: &'a Versions) -> Self {
        Self {
            history,
            versions,
            graph: Graph::new(history.operations.len()),
            expiries: HashMap::new(),
        }
    }

    /// Writes after the writes that they replaced, reads between the write that they saw and the next.
    fn link_versions(&mut self) {
        // Who made each version of each key, and the expiry that ended it.
        let mut makers: Vec<Vec<Option<usize>>> = Vec::new();
        let mut ends: HashMap<(u32, usize), usize> = HashMap::new();
        for (key, order) in (0..).zip(&self.versions.orders) {
            makers.push(order.iter().map(|version| version.writer).collect());
            for pair in order.windows(2) {
                if let [before, after] = pair
                    && let (Some(from), Some(to)) = (before.writer, after.writer)
                {
                    self.graph.link(from, to, Kind::WriteWrite, Some(key));
                }
            }
            for (at, version) in order.iter().enumerate() {
                if let (Some(writer), Some(expires)) = (version.writer, version.expires)
                    && at + 1 == order.len()
                {
                    let node = self.graph.add();
                    self.expiries.insert(node, (key, expires));
                    self.graph.link(writer, node, Kind::WriteWrite, Some(key));
                    ends.insert((key, at), node);
                }
            }
        }
        for read in &self.versions.reads {
            let maker = |at| makers.get(read.key as usize)?.get(at).copied().flatten();
            let end = ends.get(&(read.key, read.version)).copied();
            let (saw, next) = match read.is_expired {
                true => (end, maker(read.version + 1)),
                false => (maker(read.version), end.or(maker(read.version + 1))),
            };
            if let Some(writer) = saw {
                self.graph
                    .link(writer, read.reader, Kind::WriteRead, Some(read.key));
            }
            if let Some(writer) = next {
                let kind = match read.by_range {
                    true => Kind::RangeWrite,
                    false => Kind::ReadWrite,
                };
                self.graph.link(read.reader, writer, kind, Some(read.key));
            }
        }
    }

    /// What a connection sent first comes first.
    fn link_sessions(&mut self) {
        let mut last: HashMap<usize, usize> = HashMap::new();
        for (number, operation) in self.history.operations.iter().enumerate() {
            if operation.outcome == Outcome::Done
                && let Some(before) = last.insert(operation.connection, number)
            {
                self.graph.link(before, number, Kind::Session, None);
            }
        }
    }

    /// What was done comes before what was asked for later. Nodes for moments between them keep the
    /// number of edges small: `done → moment → next moment → asked`.
    fn link_real_time(&mut self) {
        // Completions sort behind what was asked for at the same moment: that was concurrent.
        let mut events: Vec<(Moment, bool, usize)> = Vec::new();
        for (number, operation) in self.history.operations.iter().enumerate() {
            if operation.may_have_happened() {
                events.push((operation.invoked, false, number));
            }
            if operation.outcome == Outcome::Done {
                events.push((operation.completed, true, number));
            }
        }
        for (node, (_, (first, last))) in &self.expiries {
            events.push((*first, false, *node));
            events.push((*last, true, *node));
        }
        events.sort_unstable();
        let mut moment = None;
        for (_, is_completion, node) in events {
            if !is_completion {
                if let Some(moment) = moment {
                    self.graph.link(moment, node, Kind::RealTime, None);
                }
                continue;
            }
            let next = self.graph.add();
            self.graph.link(node, next, Kind::RealTime, None);
            if let Some(moment) = moment {
                self.graph.link(moment, next, Kind::RealTime, None);
            }
            moment = Some(next);
        }
    }

    fn link_commits(&mut self) {
        let operations = self.history.operations.iter().enumerate();
        let mut commits: Vec<(u64, usize)> = operations
            .filter(|(_, operation)| operation.may_have_happened())
            .filter_map(|(number, operation)| Some((operation.sequence?, number)))
            .collect();
        commits.sort_unstable();
        for pair in commits.windows(2) {
            if let [(_, before), (_, after)] = pair {
                self.graph.link(*before, *after, Kind::CommitOrder, None);
            }
        }
    }

    /// The cycle that needs the least to be assumed, and of these the plainest.
    fn weakest_cycle(&self) -> Option<Anomaly> {
        for (order, suffix) in ORDERS {
            let searches = [
                (WRITES | order, 0),
                (FLOW | order, 0),
                (FLOW | order, REPLACED),
                (FLOW | REPLACED | order, 0),
            ];
            for (kinds, once) in searches {
                if let Some(cycle) = self.graph.cycle(kinds, once) {
                    return Some(self.anomaly(&cycle, suffix));
                }
            }
        }
        None
    }

    fn anomaly(&self, cycle: &[Step], suffix: &str) -> Anomaly {
        let name = format!("{}{suffix}", self.name(cycle));
        let mut story = vec![format!("a cycle of {} steps:", self.shown(cycle).count())];
        for (node, edge) in self.shown(cycle) {
            story.push(self.describe(*node));
            story.push(format!("    {}", self.reason(edge.kind, edge.key)));
        }
        story.push("    the first of these, which closes the cycle".to_owned());
        Anomaly::new(&name, story)
    }

    /// The steps without the moments in between.
    fn shown<'b>(&'b self, cycle: &'b [Step]) -> impl Iterator<Item = &'b Step> {
        cycle.iter().filter(|(node, _)| {
            *node < self.history.operations.len() || self.expiries.contains_key(node)
        })
    }

    fn name(&self, cycle: &[Step]) -> String {
        let count = |kind| cycle.iter().filter(|(_, edge)| edge.kind == kind).count();
        let (points, ranges) = (count(Kind::ReadWrite), count(Kind::RangeWrite));
        let is_one_key = match cycle {
            [(_, first), (_, second)] => first.key.is_some() && first.key == second.key,
            _ => false,
        };
        let name = match (points + ranges, ranges) {
            (0, _) if count(Kind::WriteRead) == 0 => "G0 (dirty write)",
            (0, _) => "G1c (circular information flow)",
            (1, 0) if is_one_key && count(Kind::WriteWrite) == 1 => "lost update",
            (2, 0) if is_one_key => "lost update",
            (1, 0) => "G-single (read skew)",
            (_, 0) => "G2-item (write skew)",
            (1, _) => "G-single of a range (phantom)",
            _ => "G2 (phantom)",
        };
        match cycle
            .iter()
            .any(|(node, _)| self.expiries.contains_key(node))
        {
            true => format!("expiry: {name}"),
            false => name.to_owned(),
        }
    }

    fn describe(&self, node: usize) -> String {
        if let Some((key, _)) = self.expiries.get(&node) {
            return format!("  the expiry of {}", self.key(Some(*key)));
        }
        let operation = self.history.operations.get(node);
        operation.map_or_else(String::new, |it| format!("  {node}: {it}"))
    }

    fn reason(&self, kind: Kind, key: Option<u32>) -> String {
        let key = self.key(key);
        match kind {
            Kind::WriteWrite => format!("wrote {key}, which was replaced by"),
            Kind::WriteRead => format!("wrote {key}, which was read by"),
            Kind::ReadWrite => format!("read {key} as it was before"),
            Kind::RangeWrite => format!("read a range, with {key} as it was before"),
            Kind::Session => "was sent on the same connection before".to_owned(),
            Kind::RealTime => "was done before there was asked for".to_owned(),
            Kind::CommitOrder => "has a lower sequence than".to_owned(),
        }
    }

    fn key(&self, key: Option<u32>) -> &str {
        let name = key.and_then(|key| self.versions.keys.get(key as usize));
        name.map_or("", String::as_str)
    }
}

impl Anomaly {
    /// An anomaly of this name.
    #[must_use]
    pub fn new(name: &str, story: Vec<String>) -> Self {
        let name = name.to_owned();
        Self { name, story }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.name)?;
        for line in &self.story {
            writeln!(formatter, "  {line}")?;
        }
        Ok(())
    }
}
