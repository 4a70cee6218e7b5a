//! The committed frames of `tests/vectors/`: the writer produces them byte for byte, the reader reads them, and those named
//! `refused-*` are refused with the message that they carry. A guest in another language is checked against the same files.

use std::fs;
use std::path::{Path, PathBuf};

use etl_abi::request::{RequestReader, encode, encoded_len};
use etl_abi::response::{ResponseReader, ResponseWriter};
use etl_abi::{NewRecord, Op, RecordFields, Verdict};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Text and bytes of a vector: hex digits up to a semicolon.
fn vector(name: &str) -> (String, Vec<u8>) {
    let text = fs::read_to_string(folder().join(name)).expect(name);
    let code: Vec<&str> = text
        .lines()
        .flat_map(|line| line.split(';').next())
        .collect();
    let bytes = bytes_of(&code.join("\n"));
    (text, bytes)
}

/// The bytes of lines of hex, up to three spaces.
fn bytes_of(lines: &str) -> Vec<u8> {
    let digits = lines
        .lines()
        .flat_map(|line| line.split("   ").next())
        .flat_map(str::split_whitespace);
    digits
        .map(|pair| u8::from_str_radix(pair, 16).expect("two hex digits"))
        .collect()
}

fn request_records() -> [NewRecord<'static>; 2] {
    let first = NewRecord {
        topic: "sensors/kitchen",
        partition: 7,
        offset: 4_294_967_297,
        key: Some(b"k1"),
        value: br#"{"celsius":21.5}"#,
        timestamp: Some(1_700_000_000_123),
        headers: &[("client_ip", b"192.0.2.7"), ("größe", &[0x00, 0xff])],
    };
    let second = NewRecord {
        topic: "sensors/kitchen",
        partition: 7,
        offset: 4_294_967_298,
        value: b"plain",
        ..NewRecord::default()
    };
    [first, second]
}

fn assert_same(read: &impl RecordFields, expected: &impl RecordFields) {
    assert_eq!(read.topic(), expected.topic());
    assert_eq!(read.partition(), expected.partition());
    assert_eq!(read.offset(), expected.offset());
    assert_eq!(read.key(), expected.key());
    assert_eq!(read.value(), expected.value());
    assert_eq!(read.timestamp(), expected.timestamp());
    assert_eq!(read.header_count(), expected.header_count());
    for index in 0..expected.header_count() {
        assert_eq!(read.header(index), expected.header(index));
    }
}

#[test]
fn requests_are_written_and_read_as_committed() {
    for (name, records) in [
        ("request.txt", request_records().as_slice()),
        ("request-empty.txt", &[]),
    ] {
        let (_, frame) = vector(name);
        let mut written = vec![0xaa; encoded_len(records).expect(name)];
        assert_eq!(encode(records, &mut written), Ok(written.len()), "{name}");
        assert_eq!(written, frame, "{name}");

        let reader = RequestReader::parse(&frame).expect(name);
        assert_eq!(reader.len(), records.len(), "{name}");
        for (index, (read, expected)) in reader.iter().zip(records).enumerate() {
            assert_same(&read.expect(name), expected);
            assert_same(&reader.record(index).expect(name), expected);
        }
    }
}

#[test]
fn the_short_response_is_written_and_read_as_committed() {
    let (_, frame) = vector("response.txt");
    let mut writer = ResponseWriter::new();
    writer.begin(4);
    writer.end_record();
    writer.set_value(b"forgotten by the drop");
    writer.drop_record();
    writer.add_header("forgotten", b"by the failure");
    writer.fail(42, "out of paper – später", true);
    writer.set_value(b"HELLO");
    writer.end_record();
    assert_eq!(writer.finish(), Ok(Some(frame.as_slice())));

    let reader = ResponseReader::parse(&frame, 4).expect("valid");
    assert!(matches!(reader.verdict(0), Verdict::Keep));
    assert!(matches!(reader.verdict(1), Verdict::Drop));
    let Verdict::Fail(failure) = reader.verdict(2) else {
        panic!("not a failure")
    };
    assert_eq!(
        (failure.code, failure.message, failure.retryable),
        (42, "out of paper – später", true)
    );
    assert!(matches!(reader.verdict(3), Verdict::SetValue(b"HELLO")));
}

#[test]
fn every_op_is_written_and_read_as_committed() {
    let (_, frame) = vector("response-change.txt");
    let emitted = NewRecord {
        topic: "alerts",
        key: Some(b""),
        value: b"hot",
        timestamp: Some(5),
        headers: &[("x", b"y")],
        ..NewRecord::default()
    };
    let mut writer = ResponseWriter::new();
    writer.begin(1);
    writer.set_value(b"v");
    writer.merge_patch(br#"{"a":null}"#);
    writer.set_key(b"k");
    writer.clear_key();
    writer.set_topic("topic/b");
    writer.add_header("h", b"1");
    writer.set_header("h", b"");
    writer.remove_header("h");
    writer.set_timestamp(-1);
    writer.clear_timestamp();
    writer.emit(&emitted);
    writer.end_record();
    assert_eq!(writer.finish(), Ok(Some(frame.as_slice())));

    let reader = ResponseReader::parse(&frame, 1).expect("valid");
    let Verdict::Change(ops) = reader.verdict(0) else {
        panic!("not a change")
    };
    assert_eq!(ops.len(), 11);
    let mut ops = ops.iter();
    assert!(matches!(ops.next(), Some(Op::SetValue(b"v"))));
    assert!(matches!(ops.next(), Some(Op::MergePatch(br#"{"a":null}"#))));
    assert!(matches!(ops.next(), Some(Op::SetKey(b"k"))));
    assert!(matches!(ops.next(), Some(Op::ClearKey)));
    assert!(matches!(ops.next(), Some(Op::SetTopic("topic/b"))));
    assert!(matches!(
        ops.next(),
        Some(Op::AddHeader {
            name: "h",
            value: b"1"
        })
    ));
    assert!(matches!(
        ops.next(),
        Some(Op::SetHeader {
            name: "h",
            value: b""
        })
    ));
    assert!(matches!(ops.next(), Some(Op::RemoveHeader { name: "h" })));
    assert!(matches!(ops.next(), Some(Op::SetTimestamp(-1))));
    assert!(matches!(ops.next(), Some(Op::ClearTimestamp)));
    let Some(Op::Emit(record)) = ops.next() else {
        panic!("not an emitted record")
    };
    assert_same(&record, &emitted);
    assert!(ops.next().is_none());
}

#[test]
fn refused_frames_say_why() {
    let mut seen = 0;
    for file in fs::read_dir(folder()).expect("vectors") {
        let name = file
            .expect("entry")
            .file_name()
            .into_string()
            .expect("name");
        if !name.starts_with("refused-") {
            continue;
        }
        seen += 1;
        let (text, frame) = vector(&name);
        let note = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix("; ")?.strip_prefix(key))
                .expect("note")
        };
        let records = note("records: ").parse().expect("number");
        let error = ResponseReader::parse(&frame, records).expect_err(&name);
        assert_eq!(error.to_string(), note("error: "), "{name}");
    }
    assert_eq!(seen, 9);
}

/// The frames on the page itself, in its text blocks: hex, and after three spaces what it means.
#[test]
fn the_page_shows_valid_frames() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/abi.md"))
        .expect("docs/abi.md");
    let blocks: Vec<&str> = page
        .split("```text\n")
        .skip(1)
        .flat_map(|rest| rest.split("```").next())
        .collect();
    let frames: Vec<Vec<u8>> = blocks
        .iter()
        .flat_map(|block| block.split("\n\n"))
        .map(bytes_of)
        .collect();
    let [empty, request, response] = frames.as_slice() else {
        panic!("three frames, not {}", frames.len())
    };

    assert!(RequestReader::parse(empty).expect("valid").is_empty());
    let record = RequestReader::parse(request)
        .expect("valid")
        .record(0)
        .expect("valid");
    assert_same(
        &record,
        &NewRecord {
            topic: "t",
            value: b"v",
            ..NewRecord::default()
        },
    );
    let reader = ResponseReader::parse(response, 1).expect("valid");
    assert!(matches!(reader.verdict(0), Verdict::SetValue(b"V")));
}
