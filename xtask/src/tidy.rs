//! `cargo xtask tidy`: what the project asks of its files and rustfmt and clippy do not check.
//!
//! Each rule is a function from the tree of files to its violations, so that the tests can plant one of each. The two lists of exceptions below
//! carry their reasons; an exception that is no longer needed is a violation too, so the lists stay as short as they can be.

#[cfg(test)]
pub mod fixture;
pub mod lexer;
mod links;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;
use crate::violation::{Violation, report};

/// No Rust file is longer.
const LONGEST_FILE: usize = 600;

/// Files that may be: path, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Where `unsafe` may appear: a file or a folder, and why. Everywhere else the crate forbids it.
const UNSAFE_PLACES: &[(&str, &str)] = &[
    (
        "crates/etl-filter/tests/support/counting.rs",
        "counts allocations, which only an allocator of its own can",
    ),
    (
        "crates/etl-pool/src/engine/",
        "the seam to wasmer: guest memory is read and written in place",
    ),
    (
        "crates/etl-pool/tests/signals.rs",
        "handles signals as an embedding program may, which has no safe form",
    ),
    (
        "crates/etl-sdk/src/host.rs",
        "a guest's imports can only be declared so",
    ),
    (
        "crates/etl-sdk-macros/src/lib.rs",
        "names the guest's exports in the module author's crate",
    ),
];

/// Pages that the README promises.
const PAGES: &[&str] = &[
    "architecture",
    "configuration",
    "abi",
    "semantics",
    "operations",
    "performance",
    "decisions",
];

/// Options of `cargo xtask tidy`.
#[derive(clap::Args)]
#[command(
    long_about = "Check what rustfmt and clippy do not: headers, markers, links, file sizes\n\n\
                  Every Rust file starts with a //! header; nothing is left unfinished (markers, todo!, dbg!); no file outgrows its idea;\n\
                  unsafe stays in the listed files; no module is committed; links in the documentation lead somewhere. The rules and their\n\
                  exceptions, with reasons, are at the top of xtask/src/tidy.rs."
)]
pub struct Arguments {}

/// Runs the chore.
pub fn run(_arguments: &Arguments) -> Result<(), String> {
    let tree = Tree::of_repository(&process::repository_root())?;
    report(
        "tidy",
        &format!("{} files", tree.files.len()),
        &check(&tree),
    )
}

/// Every rule.
fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for rule in [
        headers,
        unfinished,
        lengths,
        long_file_list,
        unsafe_code,
        committed_modules,
        blanks,
        outside_paths,
        pages,
        links::check,
    ] {
        violations.extend(rule(tree));
    }
    violations
}

/// The files that the rules look at.
pub struct Tree {
    root: PathBuf,
    /// Paths from the root, with forward slashes, sorted.
    files: Vec<String>,
}

impl Tree {
    /// What git tracks or would track; in a copy without git, every file but build output.
    pub fn of_repository(root: &Path) -> Result<Self, String> {
        let listing = Command::new("git")
            .current_dir(root)
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .output();
        let Some(listing) = listing.ok().filter(|output| output.status.success()) else {
            return Self::walk(root)
                .map_err(|error| format!("cannot list {}: {error}", root.display()));
        };
        let names = String::from_utf8_lossy(&listing.stdout);
        let mut files: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
        files.retain(|file| root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(Self {
            root: root.to_path_buf(),
            files,
        })
    }

    /// Every file under the folder but `.git` and `target`.
    pub fn walk(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    if entry.file_name() != ".git" && entry.file_name() != "target" {
                        folders.push(entry.path());
                    }
                } else if let Ok(path) = entry.path().strip_prefix(root) {
                    files.push(path.to_string_lossy().replace('\\', "/"));
                }
            }
        }
        files.sort();
        Ok(Self {
            root: root.to_path_buf(),
            files,
        })
    }

    /// The files whose name ends so.
    pub fn files_ending<'a>(&'a self, endings: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.files
            .iter()
            .map(String::as_str)
            .filter(move |file| endings.iter().any(|ending| file.ends_with(ending)))
    }

    /// Whether it is one of the files, or a folder that holds some.
    fn contains(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files
            .iter()
            .any(|file| file == path || file.starts_with(&folder))
    }

    /// The text of a file; one that cannot be read, or is not text, is empty to the rules.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).unwrap_or_default()
    }

    /// Text that people write: what must be free of stray blanks and strangers' paths.
    fn written_files(&self) -> impl Iterator<Item = &str> {
        self.files_ending(&[".rs", ".toml", ".md", ".sh", ".ci/run"])
    }
}

fn headers(tree: &Tree) -> Vec<Violation> {
    tree.files_ending(&[".rs"])
        .filter(|file| !tree.read(file).starts_with("//! "))
        .map(|file| {
            let remedy =
                "Start the file with `//! `: what it is for, how it works, what it refuses.";
            Violation::of(file, "has no header", remedy)
        })
        .collect()
}

fn unfinished(tree: &Tree) -> Vec<Violation> {
    // Spelt in two halves: this file is checked as well.
    let markers = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let calls = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("db", "g!"),
    ];
    let mut violations = Vec::new();
    for file in tree.written_files() {
        let text = tree.read(file);
        let separated = if file.ends_with(".rs") {
            lexer::separate(&text)
        } else {
            lexer::Separated {
                code: String::new(),
                comments: text,
            }
        };
        for marker in markers {
            violations.extend(lexer::lines_with_word(&separated.comments, marker).map(|line| {
                let remedy = "Finish it, or say in a sentence what is missing and why that is right for now.";
                Violation::of(file, format!("is marked as unfinished ({marker})"), remedy).at(line)
            }));
        }
        for call in calls {
            violations.extend(lexer::lines_with_word(&separated.code, call).map(|line| {
                let remedy =
                    "Write the real thing, or return an error that says what is not supported.";
                Violation::of(file, format!("calls {call}"), remedy).at(line)
            }));
        }
    }
    violations
}

fn lengths(tree: &Tree) -> Vec<Violation> {
    let is_listed = |file: &str| LONG_FILES.iter().any(|(listed, _)| *listed == file);
    tree.files_ending(&[".rs"])
        .map(|file| (file, tree.read(file).lines().count()))
        .filter(|(file, lines)| *lines > LONGEST_FILE && !is_listed(file))
        .map(|(file, lines)| {
            let remedy = "Give each idea its own file; only a table or a corpus may be longer, with its reason in LONG_FILES (xtask/src/tidy.rs).";
            Violation::of(file, format!("has {lines} lines, more than {LONGEST_FILE}"), remedy)
        })
        .collect()
}

fn long_file_list(tree: &Tree) -> Vec<Violation> {
    LONG_FILES
        .iter()
        .filter(|(file, _)| {
            tree.contains("xtask/src/tidy.rs") && tree.read(file).lines().count() <= LONGEST_FILE
        })
        .map(|(file, _)| {
            Violation::of(
                *file,
                "needs no exception for its length any more",
                "Remove it from LONG_FILES (xtask/src/tidy.rs).",
            )
        })
        .collect()
}

fn unsafe_code(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files_ending(&[".rs"]).filter(|file| {
        !UNSAFE_PLACES
            .iter()
            .any(|(place, _)| file.starts_with(place))
    }) {
        let code = lexer::separate(&tree.read(file)).code;
        violations.extend(lexer::lines_with_word(&code, "unsafe").map(|line| {
            let remedy = "Use the safe code of the place that wraps it; a new place needs its reason in UNSAFE_PLACES (xtask/src/tidy.rs).";
            Violation::of(file, "holds unsafe code", remedy).at(line)
        }));
    }
    violations
}

fn committed_modules(tree: &Tree) -> Vec<Violation> {
    tree.files_ending(&[".wasm"])
        .map(|file| {
            Violation::of(
                file,
                "is a compiled module",
                "Commit its source; `cargo xtask guests` builds it.",
            )
        })
        .collect()
}

fn blanks(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.written_files() {
        let text = tree.read(file);
        for (index, line) in text.split('\n').enumerate() {
            let message = match line {
                _ if line.contains('\t') => "has a tab",
                _ if line.ends_with('\r') => "ends with a carriage return",
                _ if line.ends_with(' ') => "has blanks at its end",
                _ => continue,
            };
            violations.push(
                Violation::of(
                    file,
                    format!("the line {message}"),
                    "Use spaces, and end lines with their last word.",
                )
                .at(index + 1),
            );
        }
        if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
            violations.push(Violation::of(
                file,
                "does not end with exactly one newline",
                "End the file after its last line.",
            ));
        }
    }
    violations
}

fn outside_paths(tree: &Tree) -> Vec<Violation> {
    let shared = concat!("..", "/shared");
    let mut violations = Vec::new();
    for file in tree.written_files().filter(|file| *file != ".ci/run") {
        for (index, line) in tree.read(file).lines().enumerate() {
            if line.contains(shared) {
                let remedy = "Tests find data that is not in the repository by ETL_TEST_DATA; only .ci/run knows where it lies.";
                violations.push(
                    Violation::of(
                        file,
                        format!("names {shared}, which is not in the repository"),
                        remedy,
                    )
                    .at(index + 1),
                );
            }
        }
    }
    violations
}

fn pages(tree: &Tree) -> Vec<Violation> {
    PAGES
        .iter()
        .map(|page| format!("docs/{page}.md"))
        .filter(|page| tree.read(page).trim().is_empty())
        .map(|page| {
            Violation::of(
                page,
                "is missing",
                "The README promises this page: write what is true today.",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::fixture::Fixture;
    use super::*;

    /// A tree that breaks no rule.
    fn clean(name: &str) -> Fixture {
        let fixture = Fixture::new(name);
        for page in PAGES {
            fixture.write(&format!("docs/{page}.md"), "# Page\n");
        }
        fixture.write("crates/a/src/lib.rs", "//! A crate.\n\n/// Says \"todo!()\".\npub fn f() -> &'static str {\n    \"unsafe { dbg!() }\"\n}\n");
        fixture
    }

    /// Plants a file and returns what the check says of it.
    fn plant(name: &str, path: &str, text: &str) -> Vec<String> {
        let fixture = clean(name);
        fixture.write(path, text);
        let violations = check(&fixture.tree());
        assert!(
            violations
                .iter()
                .all(|violation| violation.place == path && !violation.remedy.is_empty()),
            "{violations:?}"
        );
        violations
            .into_iter()
            .map(|violation| violation.message)
            .collect()
    }

    #[test]
    fn a_clean_tree_passes() {
        assert_eq!(check(&clean("clean").tree()), []);
    }

    #[test]
    fn a_missing_header_is_found() {
        assert_eq!(
            plant("header", "crates/a/src/b.rs", "pub fn f() {}\n"),
            ["has no header"]
        );
    }

    #[test]
    fn unfinished_work_is_found() {
        let text = format!(
            "//! B.\n// {}: later\nfn f() {{ {}() }}\n",
            concat!("TO", "DO"),
            concat!("to", "do!")
        );
        assert_eq!(plant("unfinished", "crates/a/src/b.rs", &text).len(), 2);
        assert_eq!(
            plant(
                "unfinished-page",
                "docs/b.md",
                &format!("{} write\n", concat!("FIX", "ME"))
            )
            .len(),
            1
        );
        assert_eq!(
            plant(
                "unfinished-words",
                "crates/a/src/b.rs",
                &format!("//! B, or {}L.\n", concat!("TO", "DO"))
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_long_file_is_found() {
        let at_limit = format!("//! B.\n{}", "//\n".repeat(LONGEST_FILE - 1));
        assert_eq!(plant("long-limit", "crates/a/src/b.rs", &at_limit), [""; 0]);
        assert_eq!(
            plant("long", "crates/a/src/b.rs", &format!("{at_limit}//\n")),
            ["has 601 lines, more than 600"]
        );
    }

    #[test]
    fn unsafe_outside_its_places_is_found() {
        let text = "//! B.\nfn f() { unsafe { g() } }\n";
        assert_eq!(
            plant("unsafe", "crates/a/src/b.rs", text),
            ["holds unsafe code"]
        );
        assert_eq!(
            plant("unsafe-listed", "crates/etl-pool/src/engine/b.rs", text),
            [""; 0]
        );
    }

    #[test]
    fn a_committed_module_is_found() {
        assert_eq!(
            plant("module", "docs/examples/a/a.wasm", "x"),
            ["is a compiled module"]
        );
    }

    #[test]
    fn stray_blanks_are_found() {
        let found = plant("blanks", "docs/b.md", "a \nb\tc\nd\r\n\n");
        assert_eq!(
            found,
            [
                "the line has blanks at its end",
                "the line has a tab",
                "the line ends with a carriage return",
                "does not end with exactly one newline"
            ]
        );
    }

    #[test]
    fn a_path_outside_is_found_but_in_ci() {
        let text = format!("echo {}/data\n", concat!("..", "/shared"));
        assert_eq!(plant("outside", "docs/b.md", &text).len(), 1);
        assert_eq!(plant("outside-ci", ".ci/run", &text), [""; 0]);
    }

    #[test]
    fn a_missing_page_is_found() {
        assert_eq!(plant("page", "docs/abi.md", ""), ["is missing"]);
    }

    #[test]
    fn a_dead_link_is_found() {
        assert_eq!(
            plant("link", "docs/b.md", "[gone](gone.md)\n"),
            ["link to `gone.md`: there is no docs/gone.md"]
        );
    }

    #[test]
    fn what_git_ignores_is_not_looked_at() {
        let fixture = clean("git");
        fixture
            .write(".gitignore", "*.wasm\n")
            .write("local.wasm", "x")
            .write("forced.wasm", "x");
        let git = |arguments: &[&str]| {
            Command::new("git")
                .current_dir(fixture.root())
                .args(arguments)
                .status()
                .expect("git runs")
                .success()
        };
        assert!(git(&["init", "--quiet"]) && git(&["add", "--force", "forced.wasm"]));
        let tree = Tree::of_repository(fixture.root()).expect("git lists");
        assert_eq!(
            check(&tree)
                .iter()
                .map(|violation| violation.place.as_str())
                .collect::<Vec<_>>(),
            ["forced.wasm"]
        );
    }
}
