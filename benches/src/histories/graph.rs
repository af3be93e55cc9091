//! A graph of who must come before whom, and cycles in it.

use std::collections::VecDeque;

/// Why one node must come before another. A set of kinds is the sum of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The second replaced what the first wrote.
    WriteWrite = 1,
    /// The second read what the first wrote.
    WriteRead = 2,
    /// The second replaced what the first read.
    ReadWrite = 4,
    /// The same, where the first read a range.
    RangeWrite = 8,
    /// Both were sent on one connection, in this order.
    Session = 16,
    /// The first was done before the second was asked for.
    RealTime = 32,
    /// The server told the first a lower sequence.
    CommitOrder = 64,
}

/// A set of kinds.
pub type Kinds = u8;

/// An edge to another node.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The node.
    pub to: usize,
    /// Why it comes later.
    pub kind: Kind,
    /// The key that both touch; an index into the names of keys.
    pub key: Option<u32>,
}

/// Nodes by number, each with its edges.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    edges: Vec<Vec<Edge>>,
}

/// A step of a cycle: a node, and the edge that leads on from it.
pub type Step = (usize, Edge);

impl Graph {
    /// A graph of so many nodes, without edges.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            edges: vec![Vec::new(); nodes],
        }
    }

    /// Adds a node.
    pub fn add(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    /// Adds an edge. One from a node to itself says nothing, and is left out.
    pub fn link(&mut self, from: usize, to: usize, kind: Kind, key: Option<u32>) {
        if from != to
            && let Some(edges) = self.edges.get_mut(from)
        {
            edges.push(Edge { to, kind, key });
        }
    }

    /// How many edges of these kinds there are.
    #[must_use]
    pub fn count(&self, kinds: Kinds) -> usize {
        let all = self.edges.iter().flatten();
        all.filter(|edge| edge.kind as u8 & kinds != 0).count()
    }

    fn out(&self, node: usize, kinds: Kinds) -> impl Iterator<Item = &Edge> {
        let edges = self.edges.get(node).map_or(&[][..], Vec::as_slice);
        edges
            .iter()
            .filter(move |edge| edge.kind as u8 & kinds != 0)
    }

    /// A number for each node, which two nodes share if a cycle of these kinds goes through both
    /// (Tarjan's algorithm, without recursion); and how many nodes have each number.
    fn components(&self, kinds: Kinds) -> (Vec<usize>, Vec<usize>) {
        const NONE: usize = usize::MAX;
        let nodes = self.edges.len();
        let (mut found, mut lowest) = (vec![NONE; nodes], vec![NONE; nodes]);
        let (mut component, mut sizes) = (vec![NONE; nodes], Vec::new());
        let (mut open, mut next) = (Vec::new(), 0);
        for start in 0..nodes {
            if at(&found, start) != NONE {
                continue;
            }
            let mut path = vec![(start, self.out(start, kinds))];
            put(&mut found, start, next);
            put(&mut lowest, start, next);
            next += 1;
            open.push(start);
            while let Some((node, edges)) = path.last_mut() {
                let node = *node;
                if let Some(edge) = edges.next() {
                    if at(&found, edge.to) == NONE {
                        put(&mut found, edge.to, next);
                        put(&mut lowest, edge.to, next);
                        next += 1;
                        open.push(edge.to);
                        path.push((edge.to, self.out(edge.to, kinds)));
                    } else if at(&component, edge.to) == NONE {
                        let low = at(&lowest, node).min(at(&found, edge.to));
                        put(&mut lowest, node, low);
                    }
                    continue;
                }
                path.pop();
                if let Some((parent, _)) = path.last() {
                    let low = at(&lowest, *parent).min(at(&lowest, node));
                    put(&mut lowest, *parent, low);
                }
                if at(&lowest, node) == at(&found, node) {
                    let mut size = 0;
                    while let Some(member) = open.pop() {
                        put(&mut component, member, sizes.len());
                        size += 1;
                        if member == node {
                            break;
                        }
                    }
                    sizes.push(size);
                }
            }
        }
        (component, sizes)
    }

    /// A cycle of these kinds, and short: the shortest through some edge of the kinds `once`, which
    /// are then not used again. With no `once`, the shortest through some node.
    #[must_use]
    pub fn cycle(&self, kinds: Kinds, once: Kinds) -> Option<Vec<Step>> {
        // A broken server makes many cycles, and one will do.
        const MAX_SEARCHES: usize = 400;
        let (component, sizes) = self.components(kinds | once);
        let is_cyclic = |node| at(&sizes, at(&component, node)) > 1;
        let first = if once == 0 { kinds } else { once };
        let mut shortest: Option<Vec<Step>> = None;
        let nodes = (0..self.edges.len()).filter(|node| is_cyclic(*node));
        let starts = nodes.flat_map(|node| self.out(node, first).map(move |edge| (node, edge)));
        let inside = starts.filter(|(node, edge)| at(&component, *node) == at(&component, edge.to));
        for (node, edge) in inside.take(MAX_SEARCHES) {
            let Some(back) = self.path(edge.to, node, kinds, &component) else {
                continue;
            };
            if shortest.as_ref().is_none_or(|it| back.len() + 1 < it.len()) {
                let mut cycle = vec![(node, edge.clone())];
                cycle.extend(back);
                shortest = Some(cycle);
            }
        }
        shortest
    }

    /// The shortest way within one component.
    fn path(&self, from: usize, to: usize, kinds: Kinds, part: &[usize]) -> Option<Vec<Step>> {
        let mut came: std::collections::HashMap<usize, Step> = std::collections::HashMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                break;
            }
            for edge in self.out(node, kinds) {
                let is_new = edge.to != from && !came.contains_key(&edge.to);
                if is_new && at(part, edge.to) == at(part, from) {
                    came.insert(edge.to, (node, edge.clone()));
                    queue.push_back(edge.to);
                }
            }
        }
        let mut steps = Vec::new();
        let mut node = to;
        while node != from {
            let (before, edge) = came.get(&node)?.clone();
            node = before;
            steps.push((before, edge));
        }
        steps.reverse();
        Some(steps)
    }
}

fn at(numbers: &[usize], place: usize) -> usize {
    numbers.get(place).copied().unwrap_or(usize::MAX)
}

fn put(numbers: &mut [usize], place: usize, number: usize) {
    if let Some(slot) = numbers.get_mut(place) {
        *slot = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Kinds = u8::MAX;

    fn graph(edges: &[(usize, usize, Kind)]) -> Graph {
        let mut graph = Graph::new(6);
        for (from, to, kind) in edges {
            graph.link(*from, *to, *kind, None);
        }
        graph
    }

    #[test]
    fn without_a_cycle_none_is_found() {
        let chain = graph(&[
            (0, 1, Kind::WriteWrite),
            (1, 2, Kind::WriteRead),
            (0, 2, Kind::ReadWrite),
        ]);
        assert!(chain.cycle(ALL, 0).is_none());
    }

    #[test]
    fn the_shortest_cycle_is_found() {
        let both = graph(&[
            (0, 1, Kind::WriteWrite),
            (1, 2, Kind::WriteWrite),
            (2, 0, Kind::WriteWrite),
            (3, 4, Kind::WriteRead),
            (4, 3, Kind::WriteRead),
        ]);
        let nodes: Vec<usize> = both.cycle(ALL, 0).unwrap().iter().map(|it| it.0).collect();
        assert_eq!(nodes, [3, 4]);
    }

    #[test]
    fn a_kind_that_may_be_used_once_is_used_once() {
        let once = Kind::ReadWrite as u8;
        let data = Kind::WriteWrite as u8;
        let skew = graph(&[(0, 1, Kind::ReadWrite), (1, 0, Kind::ReadWrite)]);
        assert!(skew.cycle(data, once).is_none());
        assert!(skew.cycle(data | once, 0).is_some());
        let single = graph(&[(0, 1, Kind::ReadWrite), (1, 0, Kind::WriteWrite)]);
        assert_eq!(single.cycle(data, once).unwrap().len(), 2);
    }
}
