//! Whether filters can match at all. Only what is certain is claimed: two filters that exclude each other in a less obvious way
//! are found by nobody but their author.

use crate::model::{FilterKind, FilterTree, TopicFilter};

/// No topic matches.
pub(crate) fn never(tree: &FilterTree) -> bool {
    match tree {
        FilterTree::Every => false,
        FilterTree::Any(children) => children.iter().all(never),
        FilterTree::All(children) => children.iter().any(never) || exclude_each_other(children),
        FilterTree::Not(child) => always(child),
        FilterTree::Leaf(filter) => filter.negate && matches_everything(filter),
    }
}

/// Every topic matches.
fn always(tree: &FilterTree) -> bool {
    match tree {
        FilterTree::Every => true,
        FilterTree::Any(children) => children.iter().any(always),
        FilterTree::All(children) => children.iter().all(always),
        FilterTree::Not(child) => never(child),
        FilterTree::Leaf(filter) => !filter.negate && matches_everything(filter),
    }
}

fn matches_everything(filter: &TopicFilter) -> bool {
    match filter.kind {
        FilterKind::Wildcard => filter.pattern.chars().all(|character| character == '*'),
        FilterKind::Mqtt => filter.pattern == "#",
        FilterKind::Nats => filter.pattern == ">",
        FilterKind::Regex => matches!(filter.pattern.as_str(), ".*" | "^.*$"),
        FilterKind::Exact | FilterKind::Prefix | FilterKind::Suffix | FilterKind::Contains => false,
    }
}

/// A topic cannot be two names at once, nor begin otherwise than it does.
fn exclude_each_other(children: &[FilterTree]) -> bool {
    let plain: Vec<&TopicFilter> = children
        .iter()
        .filter_map(|child| match child {
            FilterTree::Leaf(filter) if filter.case_sensitive && !filter.negate => Some(filter),
            _ => None,
        })
        .collect();
    let exact = plain.iter().find(|filter| filter.kind == FilterKind::Exact);
    exact.is_some_and(|exact| {
        plain.iter().any(|other| match other.kind {
            FilterKind::Exact => exact.pattern != other.pattern,
            FilterKind::Prefix => !exact.pattern.starts_with(&other.pattern),
            FilterKind::Suffix => !exact.pattern.ends_with(&other.pattern),
            FilterKind::Contains => !exact.pattern.contains(&other.pattern),
            _ => false,
        })
    })
}
