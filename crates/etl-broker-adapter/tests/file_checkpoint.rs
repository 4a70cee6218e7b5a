//! A file that is read with a checkpoint, and one that is appended to: what a run finds that comes after another one, however that ended.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use etl_broker_adapter::file::{FileSink, FileSource};
use etl_broker_adapter::{
    AdapterError, AdapterErrorKind, AdapterUrl, Demand, Item, Origin, Output, Pulled, RunUrls,
    Sink, Source, open,
};
use etl_orchestrator::Record;
use proptest::prelude::*;

fn url(text: &str) -> AdapterUrl {
    text.parse().expect("a URL")
}

fn reading(folder: &Path) -> AdapterUrl {
    let folder = folder.display();
    url(&format!("file:{folder}/in?checkpoint={folder}/position"))
}

fn open_source(folder: &Path) -> Result<FileSource, AdapterError> {
    FileSource::open(&reading(folder), None)
}

/// At most so many items; fewer where the file ends.
async fn pull(source: &mut FileSource, count: usize) -> Vec<Item> {
    let paused = HashSet::new();
    let mut items = Vec::new();
    while items.len() < count {
        let demand = Demand {
            records: count - items.len(),
            bytes: usize::MAX,
            paused: &paused,
        };
        match source.pull(demand).await.expect("reads") {
            Pulled::Batch(batch) => items.extend(batch.items),
            _ => break,
        }
    }
    items
}

fn offsets(items: &[Item]) -> Vec<u64> {
    items.iter().map(|item| item.position).collect()
}

async fn ack(source: &mut FileSource, items: &[Item]) {
    let tokens: Vec<_> = items.iter().map(|item| item.token).collect();
    source.ack(&tokens).await.expect("is noted");
}

fn lines(range: std::ops::Range<u32>) -> String {
    range
        .map(|number| format!("{{\"topic\":\"t\",\"value\":{number}}}\n"))
        .collect()
}

#[tokio::test]
async fn a_run_goes_on_behind_what_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("in");
    // An empty line and one that is no record have numbers too.
    fs::write(
        &input,
        format!("\u{feff}{}\nnothing\n{}", lines(0..2), lines(2..6)),
    )
    .expect("writes");
    let mut source = open_source(folder.path()).expect("opens");
    let items = pull(&mut source, 5).await;
    assert_eq!(offsets(&items), [0, 1, 3, 4, 5]);
    assert!(items[2].content.is_err());
    ack(&mut source, &items[..3]).await;
    source.close().await.expect("closes");

    let mut source = open_source(folder.path()).expect("opens");
    let left = fs::metadata(&input).expect("is there").len();
    assert!(source.total_bytes().expect("is known") < left);
    let items = pull(&mut source, 100).await;
    assert_eq!(offsets(&items), [4, 5, 6, 7]);
    ack(&mut source, &items).await;
    source.close().await.expect("closes");

    // What is appended afterwards is all that the next one finds.
    assert_eq!(
        pull(&mut open_source(folder.path()).expect("opens"), 9)
            .await
            .len(),
        0
    );
    let text = fs::read_to_string(&input).expect("reads") + &lines(6..8);
    fs::write(&input, text).expect("writes");
    let items = pull(&mut open_source(folder.path()).expect("opens"), 9).await;
    assert_eq!(offsets(&items), [8, 9]);
}

#[tokio::test]
async fn a_crash_leaves_what_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("in"), lines(0..10)).expect("writes");
    let mut source = open_source(folder.path()).expect("opens");
    let items = pull(&mut source, 10).await;
    for acknowledged in [0..2, 2..4, 4..5] {
        ack(&mut source, &items[acknowledged]).await;
    }
    // Nothing is said to it at the end.
    drop(source);
    let again = pull(&mut open_source(folder.path()).expect("opens"), 10).await;
    assert_eq!(offsets(&again), [5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_file_that_grew_while_it_was_read_is_the_same_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("in");
    for round in 0..6 {
        let before = round * 50;
        fs::write(&input, lines(0..before + 1)).expect("writes");
        let mut source = open_source(folder.path()).expect("it is the same file");
        let first = pull(&mut source, 1).await;
        assert_eq!(offsets(&first), [u64::from(before)]);
        // All that it knows of the file's beginning is from before this.
        fs::write(&input, lines(0..before + 50)).expect("writes");
        let more = pull(&mut source, 49).await;
        ack(&mut source, if more.is_empty() { &first } else { &more }).await;
        source.close().await.expect("closes");
        if more.is_empty() {
            let mut source = open_source(folder.path()).expect("it is the same file");
            let rest = pull(&mut source, 49).await;
            ack(&mut source, &rest).await;
        }
    }
}

#[tokio::test]
async fn a_checkpoint_of_another_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, note) = (folder.path().join("in"), folder.path().join("position"));
    fs::write(&input, lines(0..5)).expect("writes");
    let mut source = open_source(folder.path()).expect("opens");
    let items = pull(&mut source, 3).await;
    ack(&mut source, &items).await;
    source.close().await.expect("closes");

    let refusal = |text: &str| {
        fs::write(&input, text).expect("writes");
        let error = open_source(folder.path()).err().expect("is refused");
        assert_eq!(error.kind(), AdapterErrorKind::InvalidUrl);
        error.to_string()
    };
    let other = refusal(&lines(7..12));
    assert!(other.contains("began with something else"), "{other}");
    assert!(other.contains("to read from the beginning"), "{other}");
    let shorter = refusal(&lines(0..1));
    assert!(
        shorter.contains("something else") || shorter.contains("were read of it"),
        "{shorter}"
    );
    fs::write(&note, "half a no").expect("writes");
    let broken = refusal(&lines(0..5));
    assert!(broken.contains("no checkpoint"), "{broken}");

    fs::remove_file(&note).expect("is there");
    let items = pull(&mut open_source(folder.path()).expect("opens"), 9).await;
    assert_eq!(offsets(&items), [0, 1, 2, 3, 4]);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let parse = |text: &str| match text.parse::<AdapterUrl>() {
        Ok(url) => url.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(parse("file:in?checkpoint=a?b"), "file:in?checkpoint=a?b");
    assert_eq!(parse("file:out?append"), "file:out?append");
    assert_eq!(parse("file:what?now"), "file:what?now");
    assert!(parse("file:in?checkpoint=").contains("names no checkpoint"));
    assert!(parse("file:in?checkpoint=in").contains("one file twice"));
    assert!(parse("file:?append").contains("names no file"));

    let folder = tempfile::tempdir().expect("a folder");
    let at = |rest: &str| url(&format!("file:{}/{rest}", folder.path().display()));
    let error = FileSource::open(&at("in?append"), None)
        .err()
        .expect("is refused");
    assert!(error.to_string().contains("for what is written"), "{error}");
    let error = FileSink::create(&at("out?checkpoint=x"))
        .err()
        .expect("is refused");
    assert!(error.to_string().contains("for what is read"), "{error}");
    let pipe = url(&format!(
        "file:/dev/null?checkpoint={}/p",
        folder.path().display()
    ));
    let error = FileSource::open(&pipe, None).err().expect("is refused");
    assert_eq!(error.kind(), AdapterErrorKind::Unsupported);
}

#[tokio::test]
async fn an_output_that_would_be_emptied_is_refused_beside_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |rest: &str| url(&format!("file:{}/{rest}", folder.path().display()));
    fs::write(folder.path().join("in"), lines(0..3)).expect("writes");
    fs::write(folder.path().join("out"), "what was written before\n").expect("writes");
    let urls = |to: &str, dead_letters: Option<&str>| RunUrls {
        from: reading(folder.path()),
        to: at(to),
        dead_letters: dead_letters.map(at),
        create: false,
        max_line_bytes: 1 << 20,
        dead_letter_topic: Default::default(),
    };
    for (to, letters) in [
        ("out", None),
        ("new", None),
        ("out?append", Some("letters")),
    ] {
        let error = open(&urls(to, letters)).await.err().expect("is refused");
        assert!(error.to_string().contains("?append`"), "{error}");
    }
    assert!(open(&urls("out?append", None)).await.is_ok());
    let null = RunUrls {
        to: url("file:/dev/null"),
        ..urls("out", None)
    };
    assert!(open(&null).await.is_ok());
}

async fn append(folder: &Path, numbers: std::ops::Range<u32>) {
    let to = url(&format!("file:{}/out?append", folder.display()));
    let mut sink = FileSink::create(&to).expect("opens");
    let output = |number: u32| Output {
        record: Arc::new(Record::new("t", number.to_string())),
        origin: Origin {
            partition: Default::default(),
            position: u64::from(number),
            index: 0,
        },
    };
    sink.write(numbers.map(output).collect())
        .await
        .expect("writes");
    assert_eq!(sink.confirm().await.expect("confirms"), []);
    sink.finish().await.expect("finishes");
}

#[tokio::test]
async fn a_last_line_that_somebody_left_open_gets_its_break() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = lines(0..2);
    fs::write(folder.path().join("out"), open.trim_end()).expect("writes");
    append(folder.path(), 2..4).await;
    append(folder.path(), 4..5).await;
    let text = fs::read_to_string(folder.path().join("out")).expect("reads");
    assert_eq!(text, lines(0..5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A killed process may have written any part of what it had not confirmed.
    #[test]
    fn whatever_was_cut_off_is_written_anew(cut in 1_usize..200_000, long in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let size = if long { 150_000 } else { 10 };
        let last = format!("{{\"topic\":\"t\",\"value\":\"{}\"}}", "x".repeat(size));
        let torn = &last[..cut.min(last.len() - 1)];
        fs::write(&out, lines(0..3) + torn).expect("writes");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(append(folder.path(), 3..5));
        prop_assert_eq!(fs::read_to_string(&out).expect("reads"), lines(0..5));
    }
}
