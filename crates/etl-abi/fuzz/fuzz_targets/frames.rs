//! Any bytes, read as a request and as a response: a value or an error, and what the reader accepts can be walked.
//! `cargo +nightly fuzz run frames` in `crates/etl-abi`; the committed vectors make a good first corpus.
#![no_main]

use etl_abi::Verdict;
use etl_abi::request::RequestReader;
use etl_abi::response::ResponseReader;
use libfuzzer_sys::fuzz_target;

fn walk(reader: ResponseReader<'_>) -> usize {
    reader.iter().map(|verdict| if let Verdict::Change(ops) = verdict { ops.iter().count() } else { 1 }).sum()
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reader) = RequestReader::parse(bytes) {
        for record in reader.iter().flatten() {
            assert_eq!(record.headers().iter().count(), record.headers().len());
        }
    }
    let records = bytes.get(8..12).and_then(|count| count.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
    walk(ResponseReader::assume_valid(bytes, records));
    if let Ok(reader) = ResponseReader::parse(bytes, records) {
        walk(reader);
    }
});
