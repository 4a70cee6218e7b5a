//! The law of the module, by examples and by random records; what is refused, with its message.

use std::io::{self, Read};

use bytes::Bytes;
use etl_orchestrator::{Headers, Record};
use proptest::prelude::*;

use super::{Line, LineReader, decode, encode};

fn read(line: &str) -> Record {
    decode(&Bytes::copy_from_slice(line.as_bytes()), 0).expect("a record")
}

fn written(record: &Record) -> String {
    let mut out = Vec::new();
    encode(record, &mut out);
    String::from_utf8(out).expect("a line is UTF-8")
}

fn refused(line: &[u8]) -> String {
    decode(&Bytes::copy_from_slice(line), 0)
        .expect_err("not a record")
        .to_string()
}

#[track_caller]
fn same(a: &Record, b: &Record) {
    assert_eq!(a.topic, b.topic);
    assert_eq!(a.partition, b.partition);
    assert_eq!(a.key, b.key);
    assert_eq!(a.value, b.value);
    assert_eq!(grouped(&a.headers), grouped(&b.headers));
    assert_eq!(a.timestamp, b.timestamp);
}

/// Each name with its values, in the order of first occurrence: written without a thought for speed.
fn grouped(headers: &Headers) -> Vec<(String, Vec<Bytes>)> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in headers.iter() {
        if !names.iter().any(|other| **other == **name) {
            names.push(name.to_string());
        }
    }
    let values = |name: String| {
        let values = headers.all(&name).cloned().collect();
        (name, values)
    };
    names.into_iter().map(values).collect()
}

#[test]
fn thousands_of_headers_keep_their_order() {
    let name = |n: usize| format!("{}", n % 3_000);
    let mut record = read(r#"{"topic":"t"}"#);
    record.headers = (0..10_000).map(|n| (name(n), n.to_string())).collect();
    let back = read(written(&record).trim_end());
    assert!(grouped(&back.headers) == grouped(&record.headers));
}

#[test]
fn what_is_written_canonically_comes_back_byte_for_byte() {
    for line in [
        r#"{"topic":"t"}"#,
        r#"{"topic":"","value":null}"#,
        r#"{"topic":"t","value":1e400}"#,
        r#"{"topic":"t","value":-0.0}"#,
        r#"{"topic":"t","value":10000000000000000000001}"#,
        r#"{"topic":"t","value":{"a": 1.0,  "a":"\u00e9\ud83d\ude00\ud800\/é"}}"#,
        "{\"topic\":\"t\",\"value\":[\r\t1]}",
        r#"{"topic":"t","value":"text"}"#,
        r#"{"topic":"t","key":"k","value":[]}"#,
        r#"{"topic":"t","key":"","value":[]}"#,
        r#"{"topic":"t","key_base64":"/w==","value":[]}"#,
        r#"{"topic":"t","value_base64":"aGVsbG8="}"#,
        r#"{"topic":"t","partition":3,"timestamp":-1,"value":0}"#,
        r#"{"topic":"t","headers":{"a":"","b":"2"}}"#,
        r#"{"topic":"t","headers":{"b":"2","a":["1","","1"]}}"#,
        r#"{"topic":"t","headers":{"a":{"base64":"/w=="},"b":["x",{"base64":"AP8="}]}}"#,
    ] {
        assert_eq!(written(&read(line)), format!("{line}\n"));
    }
}

#[test]
fn other_spellings_mean_the_same() {
    for (line, canonical) in [
        (
            r#" { "value" : { } , "topic" : "t" } "#,
            r#"{"topic":"t","value":{ }}"#,
        ),
        (
            r#"{"topic":"t","key":null,"headers":{},"timestamp":null}"#,
            r#"{"topic":"t"}"#,
        ),
        (r#"{"topic":"\u0074","offset":9}"#, r#"{"topic":"t"}"#),
        (
            r#"{"topic":"t","key_base64":"aw"}"#,
            r#"{"topic":"t","key":"k"}"#,
        ),
        (
            r#"{"topic":"t","value_base64":"e30="}"#,
            r#"{"topic":"t","value":{}}"#,
        ),
        (
            r#"{"topic":"t","headers":{"a":"1","a":"2"}}"#,
            r#"{"topic":"t","headers":{"a":["1","2"]}}"#,
        ),
        (r#"{"topic":"t","headers":{"a":[]}}"#, r#"{"topic":"t"}"#),
        (
            r#"{"topic":"t","headers":{"a":"1","b":"2","a":["3"]}}"#,
            r#"{"topic":"t","headers":{"a":["1","3"],"b":"2"}}"#,
        ),
    ] {
        assert_eq!(written(&read(line)), format!("{canonical}\n"), "{line}");
    }
}

#[test]
fn json_that_cannot_stand_in_a_line_as_it_is_travels_as_base64() {
    for value in ["{\n}", " 1", "1 ", "", "{", "\u{feff}1", "nul"] {
        let mut record = read(r#"{"topic":"t"}"#);
        record.value = Bytes::copy_from_slice(value.as_bytes());
        let line = written(&record);
        assert!(!line.contains("\"value\""), "{value:?} gave {line}");
        same(&read(&line), &record);
    }
}

#[test]
fn a_deep_value_is_no_deeper_recursion() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let record = read(&format!(r#"{{"topic":"t","value":{deep}}}"#));
    assert_eq!(record.value.len(), 400_000);
    same(&read(&written(&record)), &record);
}

#[test]
fn the_value_is_a_slice_of_the_line() {
    let line = Bytes::from_static(br#"{"topic":"t","value":{"a":1}}"#);
    let record = decode(&line, 0).expect("a record");
    let within = line.as_ptr_range();
    assert!(within.contains(&record.value.as_ptr()));
}

#[test]
fn refusals_say_what_is_wrong_and_where() {
    for (line, message) in [
        ("", "not JSON: EOF while parsing a value"),
        ("nonsense", "not JSON: expected ident (column 2)"),
        (
            "[]",
            "invalid length 0, expected a record: an object with `topic`",
        ),
        (
            "3",
            "invalid type: integer `3`, expected a record: an object with `topic` (column 1)",
        ),
        (r#"{"value":1}"#, "missing field `topic` (column 11)"),
        (
            r#"{"topic":7}"#,
            "invalid type: integer `7`, expected a string (column 10)",
        ),
        (r#"{"topic":"a","topic":"b"}"#, "duplicate field `topic`"),
        (
            r#"{"topic":"t","vlaue":1}"#,
            "unknown field `vlaue`, expected one of",
        ),
        (
            r#"{"topic":"t","value":}"#,
            "not JSON: expected value (column 22)",
        ),
        (
            r#"{"topic":"t"} {"topic":"t"}"#,
            "not JSON: trailing characters (column 15)",
        ),
        (
            r#"{"topic":"t","value":1,"value_base64":"AA=="}"#,
            "both `value` and `value_base64` are given",
        ),
        (
            r#"{"topic":"t","key":"a","key_base64":"AA=="}"#,
            "both `key` and `key_base64` are given",
        ),
        (
            r#"{"topic":"t","value_base64":"?"}"#,
            "`value_base64` is not base64",
        ),
        (
            r#"{"topic":"t","headers":{"a":1}}"#,
            "invalid type: integer `1`, expected a header value",
        ),
        (
            r#"{"topic":"t","headers":{"a":{"b":"c"}}}"#,
            "has one field, `base64`",
        ),
        (
            r#"{"topic":"t","headers":{"a":{"base64":"AA==","b":1}}}"#,
            "has one field, `base64`",
        ),
        (r#"{"topic":"t","headers":{"a":[["b"]]}}"#, "do not nest"),
        (
            r#"{"topic":"t","headers":"a"}"#,
            "expected headers: an object of strings",
        ),
        (
            r#"{"topic":"t","timestamp":1.5}"#,
            "invalid type: floating point `1.5`, expected i64",
        ),
        (
            r#"{"topic":"t","partition":-1}"#,
            "invalid value: integer `-1`, expected u32",
        ),
        (
            r#"{"topic":"\ud800"}"#,
            "not JSON: unexpected end of hex escape",
        ),
    ] {
        let error = refused(line.as_bytes());
        assert!(error.contains(message), "{line}: {error}");
        let is_no_json = message.starts_with("not JSON: ");
        assert_eq!(error.starts_with("not JSON: "), is_no_json, "{error}");
    }
    for line in [
        &b"{\"topic\":\"\xff\"}"[..],
        b"{\"topic\":\"t\",\"value\":\"\xff\"}",
        b"{\"topic\":\"t\",\"headers\":{\"\xff\":\"\"}}",
    ] {
        let error = refused(line);
        assert!(
            error.contains("not JSON: invalid unicode code point"),
            "{error}"
        );
    }
}

/// Gives out the bytes in pieces of every size up to `piece`.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.next = self.next % self.piece + 1;
        let count = self.next.min(self.rest.len()).min(out.len());
        let (now, rest) = self.rest.split_at(count);
        out[..count].copy_from_slice(now);
        self.rest = rest;
        Ok(count)
    }
}

fn lines(input: &[u8], piece: usize, limit: usize) -> Vec<Line> {
    let mut reader = LineReader::new(
        Pieces {
            rest: input,
            piece,
            next: 0,
        },
        limit,
    );
    let mut lines = Vec::new();
    loop {
        lines.extend(std::iter::from_fn(|| reader.buffered()));
        if reader.is_at_end() {
            assert_eq!(reader.bytes_read(), input.len() as u64);
            return lines;
        }
        reader.fill().expect("memory can be read");
    }
}

fn whole(lines: &[Line]) -> Vec<(u64, &[u8])> {
    lines
        .iter()
        .map(|line| match line {
            Line::Whole { number, bytes } => (*number, &bytes[..]),
            Line::TooLong { .. } => panic!("too long: {line:?}"),
        })
        .collect()
}

#[test]
fn lines_end_where_they_end() {
    for piece in [1, 2, 3, 100] {
        assert_eq!(lines(b"", piece, 10), []);
        let read = lines(b"\xef\xbb\xbfa\r\n\n\xef\xbb\xbf\nlast", piece, 10);
        assert_eq!(
            whole(&read),
            [(1, &b"a"[..]), (2, b""), (3, b"\xef\xbb\xbf"), (4, b"last"),]
        );
    }
}

#[test]
fn a_line_over_the_limit_is_counted_and_not_kept() {
    let long = vec![b'x'; 3_000_000];
    let mut input = b"a\n".to_vec();
    input.extend_from_slice(&long);
    input.extend_from_slice(b"\nb\n");
    input.extend_from_slice(&long);
    for piece in [5_000, 1_000_000] {
        let read = lines(&input, piece, 1_000);
        assert_eq!(
            whole(&[read[0].clone(), read[2].clone()]),
            [(1, &b"a"[..]), (3, b"b"),]
        );
        for (index, line) in [(1, 2), (3, 4)] {
            let Line::TooLong {
                number,
                beginning,
                length,
            } = &read[index]
            else {
                panic!("not too long: {:?}", read[index]);
            };
            assert_eq!(
                (*number, *length, beginning.len()),
                (line, 3_000_000, 4_096)
            );
        }
        assert_eq!(read.len(), 4);
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    for piece in [1, 7, 100] {
        assert_eq!(
            whole(&lines(b"12345\r\n12345", piece, 5)),
            [(1, &b"12345"[..]), (2, b"12345"),]
        );
        assert!(matches!(
            lines(b"123456\n", piece, 5)[..],
            [Line::TooLong { length: 6, .. }]
        ));
    }
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        ".{0,20}".prop_map(Bytes::from),
        Just(Bytes::from_static(b"{\"a\":[1e400,\"\\u00e9\"]}")),
        "[ \n\r\t]{0,2}[0-9]{1,3}[ \n\r\t]{0,2}".prop_map(Bytes::from),
    ]
}

prop_compose! {
    fn any_record()(
        topic in ".{0,12}",
        partition in prop_oneof![Just(0), any::<u32>()],
        key in prop::option::of(any_bytes()),
        value in any_bytes(),
        headers in prop::collection::vec(("[ab\"é]{0,2}", any_bytes()), 0..24),
        timestamp in prop::option::of(any::<i64>()),
    ) -> Record {
        Record { topic: topic.into(), partition, offset: 0, key, value, headers: headers.into_iter().collect(), timestamp }
    }
}

proptest! {
    #[test]
    fn reading_what_was_written_gives_the_record(record in any_record()) {
        let line = written(&record);
        prop_assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{}", line);
        let back = read(line.trim_end_matches('\n'));
        same(&back, &record);
        prop_assert_eq!(written(&back), line);
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode(&bytes.into(), 0);
    }

    #[test]
    fn pieces_do_not_matter(input in "[a\r\n]{0,60}", piece in 1_usize..70, limit in 0_usize..8) {
        prop_assert_eq!(lines(input.as_bytes(), piece, limit), lines(input.as_bytes(), 1, limit));
    }
}
