//! Any bytes are a value or an error; what a writer wrote, the reader reads; and work on a response is linear in its length.

use etl_abi::request::{RequestReader, encode, encoded_len};
use etl_abi::response::{ResponseReader, ResponseWriter};
use etl_abi::{DecodeErrorKind, EncodeError, NewRecord, Op, RecordFields, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

#[path = "../../etl-filter/tests/support/effort.rs"]
mod effort;

/// A record that owns its parts, to be borrowed from.
#[derive(Clone, Debug)]
struct Owned {
    topic: String,
    partition: u32,
    offset: u64,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    timestamp: Option<i64>,
    headers: Vec<(String, Vec<u8>)>,
}

impl RecordFields for Owned {
    fn topic(&self) -> &str {
        &self.topic
    }
    fn partition(&self) -> u32 {
        self.partition
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }
    fn value(&self) -> &[u8] {
        &self.value
    }
    fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
    fn header_count(&self) -> usize {
        self.headers.len()
    }
    fn header(&self, index: usize) -> (&str, &[u8]) {
        (&self.headers[index].0, &self.headers[index].1)
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn record() -> impl Strategy<Value = Owned> {
    let headers = vec((".{0,8}", bytes()), 0..4);
    (
        "(a|b|.{0,12})",
        any::<u32>(),
        any::<u64>(),
        proptest::option::of(bytes()),
        bytes(),
        any::<Option<i64>>(),
        headers,
    )
        .prop_map(
            |(topic, partition, offset, key, value, timestamp, headers)| Owned {
                topic,
                partition,
                offset,
                key,
                value,
                timestamp,
                headers,
            },
        )
}

#[derive(Clone, Debug)]
enum Change {
    SetValue(Vec<u8>),
    MergePatch(Vec<u8>),
    SetKey(Vec<u8>),
    ClearKey,
    SetTopic(String),
    AddHeader(String, Vec<u8>),
    SetHeader(String, Vec<u8>),
    RemoveHeader(String),
    SetTimestamp(i64),
    ClearTimestamp,
    Emit(Owned),
}

#[derive(Clone, Debug)]
enum Answer {
    Changes(Vec<Change>),
    Drop,
    Fail(u32, String, bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        bytes().prop_map(Change::SetValue),
        bytes().prop_map(Change::MergePatch),
        bytes().prop_map(Change::SetKey),
        Just(Change::ClearKey),
        ".{0,8}".prop_map(Change::SetTopic),
        (".{0,8}", bytes()).prop_map(|(name, value)| Change::AddHeader(name, value)),
        (".{0,8}", bytes()).prop_map(|(name, value)| Change::SetHeader(name, value)),
        ".{0,8}".prop_map(Change::RemoveHeader),
        any::<i64>().prop_map(Change::SetTimestamp),
        Just(Change::ClearTimestamp),
        record().prop_map(Change::Emit),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => vec(change(), 0..6).prop_map(Answer::Changes),
        1 => Just(Answer::Drop),
        1 => (any::<u32>(), ".{0,20}", any::<bool>()).prop_map(|(code, message, retryable)| Answer::Fail(code, message, retryable)),
    ]
}

fn write(writer: &mut ResponseWriter, answer: &Answer) {
    match answer {
        Answer::Drop => writer.drop_record(),
        Answer::Fail(code, message, retryable) => writer.fail(*code, message, *retryable),
        Answer::Changes(changes) => {
            for change in changes {
                match change {
                    Change::SetValue(value) => writer.set_value(value),
                    Change::MergePatch(patch) => writer.merge_patch(patch),
                    Change::SetKey(key) => writer.set_key(key),
                    Change::ClearKey => writer.clear_key(),
                    Change::SetTopic(topic) => writer.set_topic(topic),
                    Change::AddHeader(name, value) => writer.add_header(name, value),
                    Change::SetHeader(name, value) => writer.set_header(name, value),
                    Change::RemoveHeader(name) => writer.remove_header(name),
                    Change::SetTimestamp(timestamp) => writer.set_timestamp(*timestamp),
                    Change::ClearTimestamp => writer.clear_timestamp(),
                    Change::Emit(record) => writer.emit(record),
                }
            }
            writer.end_record();
        }
    }
}

fn same_op(read: &Op<'_>, written: &Change) -> bool {
    match (read, written) {
        (Op::SetValue(a), Change::SetValue(b)) | (Op::MergePatch(a), Change::MergePatch(b)) => {
            a == b
        }
        (Op::SetKey(a), Change::SetKey(b)) => a == b,
        (Op::ClearKey, Change::ClearKey) | (Op::ClearTimestamp, Change::ClearTimestamp) => true,
        (Op::SetTopic(a), Change::SetTopic(b)) => a == b,
        (Op::AddHeader { name, value }, Change::AddHeader(n, v)) => name == n && value == v,
        (Op::SetHeader { name, value }, Change::SetHeader(n, v)) => name == n && value == v,
        (Op::RemoveHeader { name }, Change::RemoveHeader(n)) => name == n,
        (Op::SetTimestamp(a), Change::SetTimestamp(b)) => a == b,
        (Op::Emit(a), Change::Emit(b)) => {
            (a.topic(), a.key(), a.value(), a.timestamp())
                == (b.topic(), b.key(), b.value(), b.timestamp())
                && a.headers().iter().eq(b
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_slice())))
        }
        _ => false,
    }
}

fn same(read: Verdict<'_>, written: &Answer) -> bool {
    match (read, written) {
        (Verdict::Keep, Answer::Changes(changes)) => changes.is_empty(),
        (Verdict::Drop, Answer::Drop) => true,
        (Verdict::Fail(failure), Answer::Fail(code, message, retryable)) => {
            (failure.code, failure.message, failure.retryable)
                == (*code, message.as_str(), *retryable)
        }
        (Verdict::SetValue(value), Answer::Changes(changes)) => {
            matches!(changes.as_slice(), [Change::SetValue(written)] if written == value)
        }
        (Verdict::Change(ops), Answer::Changes(changes)) => {
            ops.len() == changes.len()
                && ops
                    .iter()
                    .zip(changes)
                    .all(|(op, change)| same_op(&op, change))
        }
        _ => false,
    }
}

/// Reads all that can be read.
fn read_request(frame: &[u8]) {
    if let Ok(reader) = RequestReader::parse(frame) {
        for record in reader.iter().flatten() {
            assert_eq!(record.headers().iter().count(), record.headers().len());
        }
    }
}

fn read_response(frame: &[u8], records: usize) {
    let walk = |reader: ResponseReader<'_>| {
        reader
            .iter()
            .map(|verdict| {
                if let Verdict::Change(ops) = verdict {
                    ops.iter().count()
                } else {
                    1
                }
            })
            .sum::<usize>()
    };
    // Unchecked bytes may answer nonsense, but they must not panic either.
    walk(ResponseReader::assume_valid(frame, records));
    if let Ok(reader) = ResponseReader::parse(frame, records) {
        assert_eq!(reader.len(), records);
        walk(reader);
    }
}

proptest! {
    #[test]
    fn requests_round_trip(records in vec(record(), 0..8), extra in 0usize..9) {
        let length = encoded_len(&records).expect("small");
        let mut frame = vec![0x55; length + extra];
        prop_assert_eq!(encode(&records, &mut frame), Ok(length));
        let reader = RequestReader::parse(&frame[..length]).expect("our own frame");
        prop_assert_eq!(reader.len(), records.len());
        for (read, written) in reader.iter().zip(&records) {
            let read = read.expect("our own record");
            prop_assert_eq!(read.topic(), &written.topic);
            prop_assert_eq!((read.partition(), read.offset()), (written.partition, written.offset));
            prop_assert_eq!(read.key(), written.key.as_deref());
            prop_assert_eq!(read.value(), &written.value);
            prop_assert_eq!(read.timestamp(), written.timestamp);
            prop_assert!(read.headers().iter().eq(written.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))));
        }
        if length > 16 {
            prop_assert_eq!(encode(&records, &mut frame[..length - 1]), Err(EncodeError::BufferTooSmall));
        }
    }

    #[test]
    fn responses_round_trip(first in vec(answer(), 0..6), second in vec(answer(), 1..6)) {
        let mut writer = ResponseWriter::new();
        for answers in [first, second] {
            writer.begin(answers.len());
            answers.iter().for_each(|answer| write(&mut writer, answer));
            let Some(frame) = writer.finish().expect("small") else {
                prop_assert!(answers.iter().all(|answer| same(Verdict::Keep, answer)));
                continue;
            };
            let reader = ResponseReader::parse(frame, answers.len()).expect("our own frame");
            for (read, written) in reader.iter().zip(&answers) {
                prop_assert!(same(read, written), "{:?} is not {:?}", read, written);
            }
            prop_assert!(ResponseReader::parse(frame, answers.len() + 1).is_err());
        }
    }
}

/// Any bytes, and (since random bytes never get past the magic) good frames that were damaged. `cargo xtask fuzz --only frames` tries more of them.
#[test]
fn any_bytes_are_a_value_or_an_error() {
    let (cases, at_once) = if cfg!(miri) { (4, 2) } else { (512, 32) };
    effort::run(cases, |seed| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(at_once)
        };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, random);
        runner
            .run(
                &(vec(any::<u8>(), 0..200), 0usize..4),
                |(bytes, records)| {
                    read_request(&bytes);
                    read_response(&bytes, records);
                    Ok(())
                },
            )
            .unwrap_or_else(|error| panic!("{error}"));
        let damage = vec(
            (
                any::<prop::sample::Index>(),
                prop_oneof![Just(0xff), Just(0), any::<u8>()],
            ),
            1..6,
        );
        let frames = (
            vec(record(), 1..4),
            vec(answer(), 1..4),
            damage,
            any::<prop::sample::Index>(),
        );
        runner
            .run(&frames, |(records, answers, damage, cut)| {
                read_damaged(&records, &answers, &damage, cut);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        2 * u64::from(at_once)
    });
}

fn read_damaged(
    records: &[Owned],
    answers: &[Answer],
    damage: &[(prop::sample::Index, u8)],
    cut: prop::sample::Index,
) {
    let mut frame = vec![0; encoded_len(records).expect("small")];
    encode(records, &mut frame).expect("fits");
    let mut writer = ResponseWriter::new();
    writer.begin(answers.len());
    answers.iter().for_each(|answer| write(&mut writer, answer));
    let mut response = writer.finish().expect("small").unwrap_or_default().to_vec();
    for &(place, byte) in damage {
        *place.get_mut(&mut frame[8..]) = byte;
        if let Some(rest) = response.get_mut(8..).filter(|rest| !rest.is_empty()) {
            *place.get_mut(rest) = byte;
        }
    }
    read_request(&frame);
    read_response(&response, answers.len());
    // A cut frame with its length corrected gets further than one without.
    for frame in [&mut frame, &mut response] {
        frame.truncate(cut.index(frame.len() + 1));
        let length = frame.len() as u32;
        if let Some(field) = frame.get_mut(12..16) {
            field.copy_from_slice(&length.to_le_bytes());
        }
    }
    read_request(&frame);
    read_response(&response, answers.len());
}

/// 60,000 ops that all name the same 60,000-byte topic would be 3.6 GB of UTF-8 to check: refused instead.
#[test]
fn overlapping_regions_cannot_multiply_the_work() {
    // Miri takes minutes over megabytes; the rule is the same for less.
    let size = if cfg!(miri) { 600 } else { 60_000_usize };
    let (ops, text) = (size, size);
    let mut frame = b"ETLR".to_vec();
    frame.extend([1, 0, 0, 0]);
    let length = 32 + text + ops * 20;
    for number in [1, length, 4, 0, 32 + text, ops] {
        frame.extend((number as u32).to_le_bytes());
    }
    frame.resize(32 + text, b'a');
    for _ in 0..ops {
        for number in [5, 32, text, 0, 0] {
            frame.extend((number as u32).to_le_bytes());
        }
    }
    assert_eq!(frame.len(), length);
    let error = ResponseReader::parse(&frame, 1).expect_err("overlaps");
    assert_eq!(
        (error.kind(), error.record(), error.field()),
        (DecodeErrorKind::Overlap, Some(0), "topic")
    );
}

#[test]
fn a_message_that_is_not_utf8_is_read_up_to_there() {
    let mut writer = ResponseWriter::new();
    writer.begin(1);
    writer.fail(1, "abcdef", false);
    let mut frame = writer.finish().expect("small").expect("a failure").to_vec();
    let end = frame.len();
    frame[end - 2] = 0xff;
    let reader = ResponseReader::parse(&frame, 1).expect("a message may be anything");
    assert!(matches!(reader.verdict(0), Verdict::Fail(failure) if failure.message == "abcd"));
}

#[test]
fn consecutive_records_share_their_topic() {
    let record = NewRecord {
        topic: "a-rather-long-topic",
        value: b"v",
        ..NewRecord::default()
    };
    let one = encoded_len(&[record]).expect("small");
    let two = encoded_len(&[record, record]).expect("small");
    assert_eq!(two - one, 56 + 1);
}
