//! Links in Markdown that lead nowhere: every relative link must name a file of the repository, and every `#anchor` a heading of it.
//!
//! Reads inline links and images, reference definitions, and headings, outside fenced code and code spans. Anchors are made as GitHub and most
//! renderers make them: lower case, punctuation gone, spaces to hyphens, `-1`, `-2` for repeats. Links with a scheme are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::Tree;
use crate::violation::Violation;

/// Checks every Markdown file of the tree.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut anchors: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in tree.files_ending(&[".md"]) {
        anchors.insert(file.to_owned(), anchors_of(&tree.read(file)));
    }
    for file in tree.files_ending(&[".md"]) {
        for (line, target) in links_of(&tree.read(file)) {
            if let Err(message) = resolve(tree, &anchors, file, &target) {
                let remedy = "Correct the link, or remove it; a path is relative to the file that it stands in.";
                violations.push(Violation::of(file, message, remedy).at(line));
            }
        }
    }
    violations
}

fn resolve(
    tree: &Tree,
    anchors: &BTreeMap<String, BTreeSet<String>>,
    from: &str,
    target: &str,
) -> Result<(), String> {
    let has_scheme = target.split_once(':').is_some_and(|(scheme, _)| {
        scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    if has_scheme || target.starts_with("//") {
        return Ok(());
    }
    let (path, anchor) = target
        .split_once('#')
        .map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() {
        from.to_owned()
    } else {
        join(from, path).ok_or_else(|| format!("link to `{target}` leaves the repository"))?
    };
    if !file.is_empty() && !tree.contains(&file) {
        return Err(format!("link to `{target}`: there is no {file}"));
    }
    match (anchor, anchors.get(&file)) {
        (Some(anchor), Some(known)) if !known.contains(anchor) => Err(format!(
            "link to `{target}`: {file} has no heading for #{anchor}"
        )),
        _ => Ok(()),
    }
}

/// The path, relative to the folder of the file `from`, from the top of the repository; None where it leaves it.
fn join(from: &str, path: &str) -> Option<String> {
    let mut joined = match path.strip_prefix('/') {
        Some(_) => return None,
        None => Path::new(from)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default(),
    };
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => joined.push(name),
            Component::ParentDir if joined != PathBuf::new() => {
                joined.pop();
            }
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(joined.to_string_lossy().replace('\\', "/"))
}

/// Each line outside fenced code, with its number; code spans are blanked.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => {
                fence = Some(mark);
                None
            }
            (Some(open), Some(mark)) if open == mark => {
                fence = None;
                None
            }
            (Some(_), _) => None,
            (None, None) => Some((index + 1, without_code_spans(line))),
        }
    })
}

fn without_code_spans(line: &str) -> String {
    let mut parts = line.split('`');
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut is_code = true;
    for part in parts {
        out.push_str(if is_code { "" } else { part });
        is_code = !is_code;
    }
    out
}

/// Targets of the links in the text, with their lines.
fn links_of(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            if let Some(end) = line[at + 2..].find(')') {
                links.push((number, target(&line[at + 2..at + 2 + end])));
            }
        }
        if line.starts_with('[')
            && !line.starts_with("[^")
            && let Some((_, definition)) = line.split_once("]: ")
        {
            links.push((number, target(definition)));
        }
    }
    links
}

/// Without angle brackets and without the title.
fn target(text: &str) -> String {
    let text = text.trim();
    match text
        .strip_prefix('<')
        .and_then(|inner| inner.split_once('>'))
    {
        Some((inside, _)) => inside.to_owned(),
        None => text
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// What `#…` may follow the file's name.
fn anchors_of(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut in_fence = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        for mark in ["id=\"", "name=\""] {
            anchors.extend(
                line.split(mark)
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next())
                    .map(str::to_owned),
            );
        }
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if !(1..=6).contains(&level) || !heading.starts_with(' ') {
            continue;
        }
        let plain = slug(heading);
        let unique = (0..).map(|repeat| {
            if repeat == 0 {
                plain.clone()
            } else {
                format!("{plain}-{repeat}")
            }
        });
        anchors.extend(
            unique
                .into_iter()
                .find(|candidate| !anchors.contains(candidate)),
        );
    }
    anchors
}

/// A heading as an anchor; links in it count by their text.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading.trim();
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            _ if character.is_alphanumeric() || character == '-' || character == '_' => {
                Some(character)
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::fixture::Fixture;

    #[test]
    fn a_link_must_name_a_file_and_a_heading() {
        let fixture = Fixture::new("links");
        fixture
            .write("docs/abi.md", "# The ABI\n## Frames & `verdicts`\n## Frames & verdicts\n<a id=\"own\"></a>\n")
            .write("docs/good.md", "[a](abi.md) [b](abi.md#frames--verdicts) [c](abi.md#frames--verdicts-1) [d](#good) [e](../README.md \"title\")\n# Good\n![p](<abi.md>) [f](abi.md#own) [g](https://example.org/x#y) `[h](gone.md)` [i](../docs/)\n```\n[j](gone.md)\n```\n")
            .write("README.md", "[good](docs/good.md)\n\n[ref]: docs/abi.md#the-abi\n");
        assert_eq!(check(&fixture.tree()), []);

        fixture.write("docs/bad.md", "fine\n[a](gone.md) [b](abi.md#nowhere)\n[c](../../outside.md) [d](#missing)\n\n[ref]: gone-too.md\n");
        let found: Vec<(Option<usize>, String)> = check(&fixture.tree())
            .into_iter()
            .map(|violation| (violation.line, violation.message))
            .collect();
        let lines: Vec<Option<usize>> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(
            lines,
            [Some(2), Some(2), Some(3), Some(3), Some(5)],
            "{found:?}"
        );
        assert!(found[0].1.contains("there is no docs/gone.md"));
        assert!(
            found[1]
                .1
                .contains("docs/abi.md has no heading for #nowhere")
        );
        assert!(found[2].1.contains("leaves the repository"));
    }
}
