//! `file:` as a user meets it: what is read, what is written, and what is said where that cannot be done.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use etl_broker_adapter::file::{FileSink, FileSource, refuse_same_file, same_output};
use etl_broker_adapter::{
    AdapterError, AdapterErrorKind, AdapterUrl, Demand, Item, Origin, Output, Outputs, Pulled,
    Sink, Source,
};
use etl_orchestrator::Record;
use tempfile::TempDir;

fn url(path: &Path) -> AdapterUrl {
    format!("file:{}", path.display()).parse().expect("a URL")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

async fn read(from: &AdapterUrl, batch: usize, limit: Option<usize>) -> Vec<Item> {
    let mut source = FileSource::open(from, limit).expect("opens");
    let mut items = Vec::new();
    let paused = HashSet::new();
    let demand = Demand {
        records: batch,
        bytes: usize::MAX,
        paused: &paused,
    };
    while let Pulled::Batch(pulled) = source.pull(demand).await.expect("reads") {
        assert!((1..=batch).contains(&pulled.items.len()));
        items.extend(pulled.items);
    }
    let again = source.pull(demand).await.expect("stays at the end");
    assert!(matches!(again, Pulled::End));
    items
}

fn outputs(records: &[Arc<Record>]) -> Outputs {
    let output = |record: &Arc<Record>| Output {
        record: record.clone(),
        origin: Origin {
            partition: Default::default(),
            position: record.offset,
            index: 0,
        },
    };
    records.iter().map(output).collect()
}

async fn write(to: &AdapterUrl, records: &[Arc<Record>], batch: usize) -> Result<(), AdapterError> {
    let mut sink = FileSink::create(to)?;
    for records in records.chunks(batch) {
        sink.write(outputs(records)).await?;
    }
    assert_eq!(sink.confirm().await?, []);
    sink.finish().await
}

fn records(items: Vec<Item>) -> Vec<Arc<Record>> {
    let record = |item: Item| item.content.expect("a record");
    items.into_iter().map(record).collect()
}

#[tokio::test]
async fn records_go_through_byte_for_byte_in_batches_of_any_size() {
    let folder = folder();
    let (from, to) = (folder.path().join("in"), folder.path().join("out"));
    let line =
        |n: u32| format!("{{\"topic\":\"t{n}\",\"headers\":{{\"n\":\"{n}\"}},\"value\":{n}.0}}\n");
    let text: String = (0..3_000).map(line).collect();
    fs::write(&from, &text).expect("writes");
    for batch in [1, 7, 256, 10_000] {
        let items = read(&url(&from), batch, None).await;
        assert!(
            items
                .iter()
                .zip(0..)
                .all(|(item, index)| item.token.0 == index)
        );
        let records = records(items);
        assert_eq!(records[2_999].offset, 2_999);
        write(&url(&to), &records, batch).await.expect("writes");
        assert_eq!(fs::read_to_string(&to).expect("reads"), text);
    }
}

#[tokio::test]
async fn lines_that_are_no_records_are_named_and_the_others_come() {
    let folder = folder();
    let from = folder.path().join("in.ndjson");
    let long = format!(r#"{{"topic":"long","value":"{}"}}"#, "x".repeat(1_000));
    let good = r#"{"topic":"t"}"#;
    let mut text = format!("{good}\n\n  \n{{\n{long}\n").into_bytes();
    text.extend_from_slice(b"\xff\xfe\n");
    text.extend_from_slice(good.as_bytes());
    fs::write(&from, text).expect("writes");

    let items = read(&url(&from), 2, Some(100)).await;
    let shown: Vec<String> = items
        .iter()
        .map(|item| match &item.content {
            Ok(record) => format!("{} at {}", record.topic, record.offset),
            Err(invalid) => format!("{}: {}", invalid.place, invalid.message),
        })
        .collect();
    let place = from.display();
    assert_eq!(
        shown,
        [
            "t at 0".to_owned(),
            format!("{place}:4: not JSON: EOF while parsing an object (column 1)"),
            format!("{place}:5: the line has 1027 bytes, over the limit of 100"),
            format!("{place}:6: not JSON: expected value (column 1)"),
            "t at 6".to_owned(),
        ]
    );
    let Err(bad) = &items[3].content else {
        panic!("not UTF-8, yet a record");
    };
    assert_eq!(
        (&bad.bytes[..], bad.length, bad.offset),
        (&b"\xff\xfe"[..], 2, 5)
    );
}

#[tokio::test]
async fn a_line_of_100_mb_costs_the_limit_and_not_its_length() {
    let folder = folder();
    let from = folder.path().join("in");
    let mut text = vec![b'x'; 100_000_000];
    text.extend_from_slice(b"\n{\"topic\":\"t\"}\n");
    fs::write(&from, text).expect("writes");
    let items = read(&url(&from), 10, None).await;
    assert_eq!(items.len(), 2);
    let Err(bad) = &items[0].content else {
        panic!("100 MB of x, yet a record");
    };
    assert_eq!((bad.bytes.len(), bad.length), (4_096, 100_000_000));
    assert_eq!(
        bad.message,
        "the line has 100000000 bytes, over the limit of 16777216"
    );
    assert!(items[1].content.is_ok());
}

#[tokio::test]
async fn an_empty_input_ends_at_once() {
    let folder = folder();
    let from = folder.path().join("empty");
    fs::write(&from, "").expect("writes");
    assert!(read(&url(&from), 10, None).await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_opened_says_so() {
    let folder = folder();
    let missing = folder.path().join("missing/in");
    for (result, kind, message) in [
        (
            FileSource::open(&url(&missing), None).err(),
            AdapterErrorKind::NotFound,
            "No such file or directory",
        ),
        (
            FileSource::open(&url(folder.path()), None).err(),
            AdapterErrorKind::IsADirectory,
            "it is a directory, not a file",
        ),
        (
            FileSink::create(&url(&missing)).err(),
            AdapterErrorKind::NotFound,
            "No such file or directory",
        ),
        (
            FileSink::create(&url(folder.path())).err(),
            AdapterErrorKind::IsADirectory,
            "Is a directory",
        ),
    ] {
        let error = result.expect("cannot be opened");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(
            error
                .to_string()
                .contains(&folder.path().display().to_string()),
            "{error}"
        );
    }
}

/// A run that fails before it begins, because another output cannot be opened, must not have emptied this one.
#[tokio::test]
async fn an_output_keeps_what_it_holds_until_something_is_written_or_confirmed() {
    let folder = folder();
    let to = folder.path().join("out");
    fs::write(&to, "precious, and longer than a record line").expect("writes");
    drop(FileSink::create(&url(&to)).expect("opens"));
    assert_eq!(
        fs::read_to_string(&to).expect("reads"),
        "precious, and longer than a record line"
    );

    let record = Arc::new(Record::new("t", "1"));
    write(&url(&to), &[record], 1).await.expect("writes");
    let line = "{\"topic\":\"t\",\"value\":1}\n";
    assert_eq!(fs::read_to_string(&to).expect("reads"), line);

    write(&url(&to), &[], 1).await.expect("writes nothing");
    assert_eq!(fs::read_to_string(&to).expect("reads"), "");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_reported_once_as_itself_and_then_as_closed() {
    let record = Arc::new(Record::new("t", "{}"));
    let mut sink = FileSink::create(&url(Path::new("/dev/full"))).expect("opens");
    sink.write(outputs(std::slice::from_ref(&record)))
        .await
        .expect("is taken");
    let error = sink.confirm().await.expect_err("cannot be confirmed");
    assert_eq!(error.kind(), AdapterErrorKind::StorageFull);
    assert!(!error.is_retryable());
    assert!(
        error
            .to_string()
            .starts_with("cannot write file:/dev/full: No space left on device"),
        "{error}"
    );
    let error = sink.write(outputs(&[record])).await.expect_err("is closed");
    assert!(
        error.to_string().contains("this output is closed"),
        "{error}"
    );
}

#[test]
fn an_output_that_is_the_input_is_refused_by_whatever_name() {
    let folder = folder();
    let (file, link, other) = (
        folder.path().join("a"),
        folder.path().join("link"),
        folder.path().join("b"),
    );
    fs::write(&file, "").expect("writes");
    fs::write(&other, "").expect("writes");
    fs::hard_link(&file, &link).expect("links");
    let dotted = folder.path().join("./a");
    for output in [&file, &link, &dotted] {
        let error = refuse_same_file(&url(&file), &url(output)).expect_err("the same file");
        assert_eq!(error.kind(), AdapterErrorKind::SameFile);
        assert!(error.to_string().contains("are one file"), "{error}");
        assert!(same_output(&url(&file), &url(output)));
    }
    let missing = folder.path().join("c");
    for output in [url(&other), url(&missing), AdapterUrl::Standard] {
        refuse_same_file(&url(&file), &output).expect("another place");
        assert!(!same_output(&url(&file), &output));
    }
    let null = url(Path::new("/dev/null"));
    refuse_same_file(&null, &null).expect("a device is not emptied");
}

#[test]
fn urls_that_nothing_reads_say_what_there_is() {
    for (text, message) in [
        ("", "`` is not a URL"),
        ("out.ndjson", "write `file:out.ndjson` for a file"),
        (
            "mqtt://localhost",
            "unknown scheme `mqtt` in `mqtt://localhost`: there are `file:PATH`, `embedded:DIR`,",
        ),
        ("FILE:x", "unknown scheme `FILE`"),
        ("file:", "`file:` names no file"),
        ("file:///", ""),
        ("file://out", "names a host: write `file:out`"),
    ] {
        match text.parse::<AdapterUrl>() {
            Ok(url) => assert_eq!((text, url.path()), ("file:///", Some(Path::new("/")))),
            Err(error) => {
                assert_eq!(error.kind(), AdapterErrorKind::InvalidUrl);
                assert!(
                    !message.is_empty() && error.to_string().contains(message),
                    "{text}: {error}"
                );
            }
        }
    }
    for (text, path) in [
        ("file:a b", "a b"),
        ("file:/a", "/a"),
        ("file:///a", "/a"),
        ("file:-", "-"),
    ] {
        let url: AdapterUrl = text.parse().expect("a URL");
        assert_eq!(url.path(), Some(Path::new(path)));
    }
    assert_eq!(
        "-".parse::<AdapterUrl>().expect("a URL"),
        AdapterUrl::Standard
    );
}

/// The shared corpora are canonical: what comes out is what went in.
#[tokio::test]
async fn real_records_go_through_byte_for_byte() {
    let Some(data) = std::env::var_os("ETL_TEST_DATA") else {
        eprintln!("skipped: real_records_go_through_byte_for_byte: set ETL_TEST_DATA");
        return;
    };
    let folder = folder();
    let to = folder.path().join("out");
    for (name, count) in [
        ("usgs-earthquakes.ndjson", 1_000),
        ("flights.ndjson", 10_000),
    ] {
        let from = Path::new(&data).join(name);
        let records = records(read(&url(&from), 256, None).await);
        assert_eq!(records.len(), count);
        write(&url(&to), &records, 256).await.expect("writes");
        assert!(
            fs::read(&to).expect("reads") == fs::read(&from).expect("reads"),
            "{name}"
        );
    }
}
