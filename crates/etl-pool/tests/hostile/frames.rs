//! Replies that are wrong in one place each, and such as are only unusual.

use crate::common::{in_ms, pool, record, records, template, wasm, words};

/// Frames that are wrong in one place each: the reply is checked before anything in it is used.
#[test]
fn malformed_frames_are_invalid_output() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let good = |kind: u32, at: u32, size: u32| {
        let mut frame = Vec::new();
        frame.extend_from_slice(b"ETLR");
        frame.extend_from_slice(&1u16.to_le_bytes());
        frame.extend_from_slice(&0u16.to_le_bytes());
        for word in [1, 37, kind, 0, at, size] {
            frame.extend_from_slice(&u32::to_le_bytes(word));
        }
        frame.extend_from_slice(b"hello");
        frame
    };
    let answer = |frame: &[u8]| {
        let escaped: String = frame.iter().map(|byte| format!("\\{byte:02x}")).collect();
        wasm(&format!(
            r#"(module (memory (export "memory") 1 1) (data (i32.const 1024) "{escaped}")
                 (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 8192))
                 (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const {})))"#,
            etl_abi::pack(1_024, frame.len() as u32)
        ))
    };
    let mut outcome = |frame: &[u8]| {
        let template = template(&pool, &answer(frame));
        words(
            &shelves
                .call(&template, &[record(b"value")], in_ms(5_000))
                .unwrap(),
        )
    };
    let frame = good(3, 32, 5);
    assert_eq!(
        outcome(&frame),
        ["=hello"],
        "the frame that the others are made from"
    );
    for length in 0..frame.len() {
        assert_eq!(
            outcome(&frame[..length]),
            ["InvalidOutput"],
            "cut to {length}"
        );
    }
    for byte in 0..16 {
        for change in [0x01, 0x80, 0xff] {
            let mut bad = frame.clone();
            bad[byte] ^= change;
            assert_eq!(
                outcome(&bad),
                ["InvalidOutput"],
                "byte {byte} of the header, {change:#x}"
            );
        }
    }
    for (kind, at, size) in [
        (3, 33, 5),
        (3, 32, 6),
        (3, 0xffff_fff0, 0x20),
        (3, 0x20, 0xffff_ffff),
        (4, 32, 1),
        (4, 32, 0x1000_0000),
        (5, 32, 5),
        (0xffff, 32, 5),
        (0x0001_0003, 32, 5),
        (2, 36, 2),
    ] {
        assert_eq!(
            outcome(&good(kind, at, size)),
            ["InvalidOutput"],
            "{kind} {at} {size}"
        );
    }
}

/// Two verdicts whose bytes lie in another order, on top of one another, or are more or fewer than the records.
#[test]
fn reordered_frames_are_read_as_the_boundary_says() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let frame = |entries: &[(u32, u32)]| {
        let mut frame = Vec::new();
        frame.extend_from_slice(b"ETLR");
        frame.extend_from_slice(&1u32.to_le_bytes());
        let size = 16 + 16 * entries.len() + 6;
        for word in [entries.len(), size] {
            frame.extend_from_slice(&(word as u32).to_le_bytes());
        }
        for &(at, length) in entries {
            for word in [3, 0, at, length] {
                frame.extend_from_slice(&word.to_le_bytes());
            }
        }
        frame.extend_from_slice(b"onetwo");
        frame
    };
    for entries in [
        &[(48, 3), (51, 3)][..],
        &[(51, 3), (48, 3)],
        &[(48, 6), (50, 2)],
        &[(54, 0), (48, 6)],
        &[(51, 4), (48, 3)],
        &[(0, 16), (16, 16)],
        &[(32, 3)],
        &[(64, 3), (67, 3), (64, 3)],
    ] {
        let frame = frame(entries);
        let escaped: String = frame.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let guest = wasm(&format!(
            r#"(module (memory (export "memory") 1 1) (data (i32.const 1024) "{escaped}")
                 (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 8192))
                 (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const {})))"#,
            etl_abi::pack(1_024, frame.len() as u32)
        ));
        let template = template(&pool, &guest);
        let verdicts = shelves
            .call(&template, &records(&["a", "b"]), in_ms(5_000))
            .unwrap();
        let expected: Vec<String> = match etl_abi::response::ResponseReader::parse(&frame, 2) {
            Ok(reader) => (0..2)
                .map(|index| match reader.verdict(index) {
                    etl_abi::Verdict::SetValue(value) => {
                        format!("={}", String::from_utf8_lossy(value))
                    }
                    other => panic!("{other:?}"),
                })
                .collect(),
            // In halves, down to one record, for which it is a frame only if it has one verdict.
            Err(_) => match etl_abi::response::ResponseReader::parse(&frame, 1) {
                Ok(_) => vec!["=one".to_owned(); 2],
                Err(_) => vec!["InvalidOutput".to_owned(); 2],
            },
        };
        assert_eq!(words(&verdicts), expected, "{entries:?}");
    }
}
