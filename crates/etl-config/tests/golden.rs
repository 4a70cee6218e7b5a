//! Reports as people read them, held to files: for each document in `golden`, what loading it says.
//!
//! `UPDATE_GOLDEN=1 cargo test -p etl-config` writes them anew; look at what changed before it is committed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use etl_config::{LoadOptions, Report, load_text};

#[test]
fn every_report_reads_as_it_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut documents: Vec<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "txt"))
        .collect();
    documents.sort();
    assert!(documents.len() >= 10, "{documents:?}");
    let mut wrong = String::new();
    for document in documents {
        let name = document
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&document).expect("it is text");
        let rendered = match load_text(&name, &text, &LoadOptions::isolated()) {
            Ok(loaded) => Report::new(loaded.warnings).render(false),
            Err(report) => report.render(false),
        };
        let golden = folder.join(format!("{name}.txt"));
        if update {
            fs::write(&golden, &rendered).expect("it can be written");
        } else if fs::read_to_string(&golden).unwrap_or_default() != rendered {
            writeln!(wrong, "---- {name} now says\n{rendered}").expect("a string takes it");
        }
    }
    assert!(wrong.is_empty(), "{wrong}UPDATE_GOLDEN=1 accepts this");
}
