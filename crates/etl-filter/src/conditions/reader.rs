//! Reads many singular paths in one pass over a payload, and no further than the last of them.
//!
//! The paths make a tree of steps. The pass walks the payload and the tree together, checks and skips what no path leads
//! into, and stops once every path is decided: found, or passed by for good.
//!
//! **What is promised.** The value at a path is the first one: where a name stands twice in an object, the first member is
//! the only one. It is found if everything up to its end is well-formed JSON. What follows is not looked at, so a payload
//! that is cut off or garbled later still has it, and what other paths are read beside it makes no difference. So a payload that begins
//! as the one before, up to where a pass stopped, need not be read again.

use super::lexer::{Lexer, NotJson, Text, is_delimiter, unescape};
use super::path::Step;

/// Where a path's value lies in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// The pass has not got so far.
    Undecided,
    Missing,
    NotJson,
    Found {
        start: usize,
        end: usize,
        /// It is a string with escapes in it.
        escaped: bool,
    },
}

/// What is known of a path, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The payload's epoch in which `spot` was read.
    pub epoch: u64,
    pub spot: Spot,
}

/// The tree of the paths that are read together.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    nodes: Box<[Node]>,
    /// The paths, in the order of the tree: what lies below a node is one run.
    paths: Box<[u32]>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// The path that ends here.
    path: Option<u32>,
    /// This node's run of `Reader::paths`.
    first: u32,
    last: u32,
    /// By length, then text.
    names: Box<[Name]>,
    /// A bit for each length of a name; the last one stands for all that are longer.
    lengths: u64,
    /// Ascending.
    indexes: Box<[(u64, u32)]>,
}

#[derive(Clone, Debug)]
struct Name {
    text: Box<[u8]>,
    /// Its first eight bytes, see [`head`].
    head: u64,
    child: u32,
}

/// Up to here the names of an object are compared one after the other.
const FEW_NAMES: usize = 8;

impl Reader {
    /// A reader of these paths, by number. Each number stands once.
    pub fn new<'p>(paths: impl IntoIterator<Item = (u32, &'p [Step])>) -> Self {
        let mut sorted: Vec<(u32, &[Step])> = paths.into_iter().collect();
        sorted.sort_by_key(|&(_, steps)| steps);
        let (mut nodes, mut order) = (Vec::new(), Vec::new());
        grow(&sorted, 0, &mut nodes, &mut order);
        Reader {
            nodes: nodes.into(),
            paths: order.into(),
        }
    }

    /// Reads the paths that `readings` does not know in this epoch. Answers how many bytes of the payload were read, see [`reads_alike`].
    pub fn read(
        &self,
        payload: &[u8],
        epoch: u64,
        readings: &mut [Reading],
        desk: &mut Desk,
    ) -> usize {
        let mut undecided = 0;
        for &path in &self.paths {
            let reading = &mut readings[path as usize];
            if reading.epoch != epoch {
                *reading = Reading {
                    epoch,
                    spot: Spot::Undecided,
                };
                undecided += 1;
            }
        }
        if undecided == 0 {
            return 0;
        }
        desk.seen.clear();
        desk.seen.resize(self.nodes.len().div_ceil(64), 0);
        let mut pass = Pass {
            reader: self,
            lexer: Lexer::new(payload),
            readings,
            desk,
            undecided,
        };
        if let Err(Stop::NotJson) = pass.value(0, false) {
            for &path in &self.paths {
                let spot = &mut pass.readings[path as usize].spot;
                if *spot == Spot::Undecided {
                    *spot = Spot::NotJson;
                }
            }
            return usize::MAX;
        }
        pass.lexer.at
    }
}

/// Whether passes that read at most `bytes` of one payload find the same in another: these bytes decide it all, but for a number or a
/// literal at their end, which wants a delimiter behind it, whichever. Where a payload was not JSON, its end may have decided.
pub(super) fn reads_alike(bytes: usize, before: &[u8], after: &[u8]) -> bool {
    let (Some(before), Some((after, behind))) =
        (before.get(..bytes), after.split_at_checked(bytes))
    else {
        return false;
    };
    let ends_by_itself = matches!(before.last(), None | Some(b'"' | b'}' | b']'));
    before == after && (ends_by_itself || behind.first().is_some_and(|byte| is_delimiter(*byte)))
}

/// Adds the node at `depth` that all of `paths` (sorted) lead through; returns its place.
fn grow(
    paths: &[(u32, &[Step])],
    depth: usize,
    nodes: &mut Vec<Node>,
    order: &mut Vec<u32>,
) -> u32 {
    let place = nodes.len();
    nodes.push(Node {
        first: order.len() as u32,
        ..Node::default()
    });
    let ending = paths
        .iter()
        .take_while(|(_, steps)| steps.len() == depth)
        .count();
    if let Some(&(path, _)) = paths[..ending].first() {
        nodes[place].path = Some(path);
        order.push(path);
    }
    let mut names: Vec<Name> = Vec::new();
    let mut indexes = Vec::new();
    for below in paths[ending..].chunk_by(|(_, left), (_, right)| left[depth] == right[depth]) {
        let child = grow(below, depth + 1, nodes, order);
        match &below[0].1[depth] {
            Step::Name(name) => names.push(Name {
                text: name.as_bytes().into(),
                head: head(name.as_bytes(), name.len()),
                child,
            }),
            Step::Index(index) => indexes.push((*index, child)),
        }
    }
    names.sort_by(|left, right| by_length(&left.text, &right.text));
    let node = &mut nodes[place];
    for name in &names {
        node.lengths |= length_bit(name.text.len());
    }
    node.names = names.into();
    node.indexes = indexes.into();
    node.last = order.len() as u32;
    place as u32
}

fn by_length(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// The first eight of a name's bytes as a number, zeros behind a shorter one. `from` begins with the name and may go on.
#[inline]
fn head(from: &[u8], length: usize) -> u64 {
    let word = match from.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => from
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    if length < 8 {
        word & ((1 << (8 * length)) - 1)
    } else {
        word
    }
}

impl Node {
    /// The node below a name: the first `length` bytes of `from`.
    #[inline]
    fn below(&self, from: &[u8], length: usize) -> Option<u32> {
        // Most names of a payload are not asked for, and mostly their length shows it.
        if self.lengths & length_bit(length) == 0 {
            return None;
        }
        let name = &from[..length];
        if self.names.len() <= FEW_NAMES {
            let head = head(from, length);
            return self
                .names
                .iter()
                .find(|known| {
                    known.head == head
                        && known.text.len() == length
                        && (length <= 8 || known.text[8..] == name[8..])
                })
                .map(|known| known.child);
        }
        self.names
            .binary_search_by(|known| by_length(&known.text, name))
            .ok()
            .map(|place| self.names[place].child)
    }
}

/// What a pass writes on: kept for the next one.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk {
    /// For containers that are skipped.
    spill: Vec<u64>,
    /// A bit for each node of the tree whose member has been met.
    seen: Vec<u64>,
    name: Vec<u8>,
}

impl Desk {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        (self.spill.capacity() + self.seen.capacity()) * size_of::<u64>() + self.name.capacity()
    }
}

enum Stop {
    NotJson,
    /// Every path is decided.
    Done,
}

impl From<NotJson> for Stop {
    fn from(_: NotJson) -> Self {
        Stop::NotJson
    }
}

struct Pass<'a> {
    reader: &'a Reader,
    lexer: Lexer<'a>,
    readings: &'a mut [Reading],
    desk: &'a mut Desk,
    undecided: usize,
}

impl Pass<'_> {
    fn value(&mut self, place: u32, nested: bool) -> Result<(), Stop> {
        let node = &self.reader.nodes[place as usize];
        self.lexer.whitespace();
        let start = self.lexer.at;
        let mut escaped = false;
        match self.lexer.peek() {
            Some(b'{') if !node.names.is_empty() => self.object(node)?,
            Some(b'[') if !node.indexes.is_empty() => self.array(node)?,
            Some(b'"') => {
                self.lexer.at += 1;
                escaped = self.lexer.string()?;
            }
            _ => self.lexer.skip(&mut self.desk.spill, nested)?,
        }
        if let Some(path) = node.path {
            self.decide(
                path,
                Spot::Found {
                    start,
                    end: self.lexer.at,
                    escaped,
                },
            );
        }
        // What lies below and has not been met is not there.
        for &path in &self.reader.paths[node.first as usize..node.last as usize] {
            self.decide(path, Spot::Missing);
        }
        if self.undecided == 0 {
            Err(Stop::Done)
        } else {
            Ok(())
        }
    }

    #[inline]
    fn decide(&mut self, path: u32, spot: Spot) {
        let known = &mut self.readings[path as usize].spot;
        if *known == Spot::Undecided {
            *known = spot;
            self.undecided -= 1;
        }
    }

    fn object(&mut self, node: &Node) -> Result<(), Stop> {
        self.lexer.at += 1;
        self.lexer.whitespace();
        if self.lexer.peek() == Some(b'}') {
            self.lexer.at += 1;
            return Ok(());
        }
        loop {
            let name = self.lexer.name()?;
            match self.below(node, name) {
                Some(child) if self.first_time(child) => self.value(child, true)?,
                _ => self.lexer.skip(&mut self.desk.spill, true)?,
            }
            match self.lexer.next_visible()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(Stop::NotJson),
            }
        }
    }

    #[inline]
    fn below(&mut self, node: &Node, name: Text) -> Option<u32> {
        let bytes = self.lexer.bytes;
        if !name.escaped {
            return node.below(&bytes[name.start..], name.end - name.start);
        }
        self.desk.name.clear();
        unescape(&bytes[name.start..name.end], &mut self.desk.name);
        node.below(&self.desk.name, self.desk.name.len())
    }

    #[inline]
    fn first_time(&mut self, node: u32) -> bool {
        let (word, bit) = (&mut self.desk.seen[node as usize / 64], 1 << (node % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    fn array(&mut self, node: &Node) -> Result<(), Stop> {
        self.lexer.at += 1;
        self.lexer.whitespace();
        if self.lexer.peek() == Some(b']') {
            self.lexer.at += 1;
            return Ok(());
        }
        let mut wanted = node.indexes.iter().peekable();
        for index in 0.. {
            match wanted.next_if(|&&(place, _)| place == index) {
                Some(&(_, child)) => self.value(child, true)?,
                None => self.lexer.skip(&mut self.desk.spill, true)?,
            }
            match self.lexer.next_visible()? {
                b',' => {}
                b']' => break,
                _ => return Err(Stop::NotJson),
            }
        }
        Ok(())
    }
}
