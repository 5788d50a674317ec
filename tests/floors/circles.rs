//! Circles of files: the strongly connected components of the edges.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    edges::{self, Edges},
    tree::{FileId, Package},
};

/// The circles, the largest first.
pub fn of(edges: &Edges) -> Vec<BTreeSet<FileId>> {
    let mut walk = Walk::default();
    for (from, to) in edges.keys() {
        walk.next.entry(*from).or_default().push(*to);
    }
    let starts: Vec<FileId> = walk.next.keys().copied().collect();
    for start in starts {
        if !walk.index.contains_key(&start) {
            walk.visit(start);
        }
    }
    walk.found.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    walk.found
}

/// Tarjan's algorithm: `index` is the order in which files are come to, `stack` the files whose
/// circle is not known yet.
#[derive(Default)]
struct Walk {
    next: BTreeMap<FileId, Vec<FileId>>,
    index: BTreeMap<FileId, usize>,
    stack: Vec<FileId>,
    found: Vec<BTreeSet<FileId>>,
}

impl Walk {
    fn visit(&mut self, file: FileId) -> usize {
        let index = self.index.len();
        self.index.insert(file, index);
        self.stack.push(file);
        let mut lowest = index;
        for next in self.next.get(&file).cloned().unwrap_or_default() {
            if !self.index.contains_key(&next) {
                lowest = lowest.min(self.visit(next));
            } else if self.stack.contains(&next) {
                lowest = lowest.min(self.index[&next]);
            }
        }
        if lowest == index {
            let at = self.stack.iter().position(|open| *open == file).unwrap_or_default();
            let circle: BTreeSet<FileId> = self.stack.drain(at..).collect();
            if circle.len() > 1 {
                self.found.push(circle);
            }
        }
        lowest
    }
}

/// Each circle with the edges inside it; nothing if there is none.
pub fn report(package: &Package, edges: &Edges) -> String {
    let mut out = String::new();
    for circle in of(edges) {
        let inside: Vec<_> = edges
            .iter()
            .filter(|((from, to), _)| circle.contains(from) && circle.contains(to))
            .collect();
        out += &format!("a circle of {} files, {} edges:\n", circle.len(), inside.len());
        for (edge, names) in inside {
            out += &format!("  {}\n", edges::line(package, *edge, names));
        }
    }
    out
}
