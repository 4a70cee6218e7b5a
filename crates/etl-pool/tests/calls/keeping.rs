//! What is kept instead of made again: results, and compiled code.

use std::time::Duration;

use etl_pool::{InstanceOptions, Isolation, Pool, PoolOptions};

use crate::common::{ECHO, in_ms, on_poison, pool, records, template_with, v1, words};
use crate::isolation::counting;

#[test]
fn results_are_kept_for_what_is_the_same() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let options = InstanceOptions {
        cache_ttl: Some(Duration::from_secs(60)),
        ..InstanceOptions::default()
    };
    let template = template_with(&pool, &counting(), options.clone());
    let mut call = |values: &[&str]| {
        words(
            &shelves
                .call(&template, &records(values), in_ms(1_000))
                .unwrap(),
        )
    };
    assert_eq!(call(&["ab", "cd"]), ["=11", "=22"]);
    assert_eq!(call(&["cd", "ef", "ab"]), ["=22", "=33", "=11"]);
    let stats = template.stats();
    assert_eq!((stats.cache_hits, stats.cache_misses), (2, 3));

    // A failure is not kept, and a module that can see a clock is called each time.
    let failing = template_with(&pool, &on_poison("", "unreachable"), options.clone());
    for _ in 0..2 {
        let verdicts = shelves
            .call(&failing, &records(&["a", "!"]), in_ms(1_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["=a", "Trap"]);
    }
    assert_eq!(failing.stats().cache_hits, 1);
    let timed = v1(
        r#"(import "etl" "now" (func $now (result i64)))"#,
        "(drop (call $now))",
    );
    let timed = template_with(&pool, &timed, options);
    for _ in 0..2 {
        shelves
            .call(&timed, &records(&["a"]), in_ms(1_000))
            .unwrap();
    }
    assert_eq!(timed.stats().cache_hits, 0);
}

#[test]
fn compiled_code_is_kept_on_disk_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let options = PoolOptions {
        cache_dir: Some(folder.path().join("cache")),
        ..PoolOptions::default()
    };
    let guest = v1("", ECHO);
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(folder.path().join("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "code")
            })
            .collect();
        files.sort();
        files
    };
    let works = || {
        let pool = Pool::new(options.clone()).unwrap();
        let isolated = InstanceOptions {
            isolation: Isolation::Batch,
            ..InstanceOptions::default()
        };
        for options in [InstanceOptions::default(), isolated] {
            let template = template_with(&pool, &guest, options);
            let verdicts = pool
                .shelves()
                .call(&template, &records(&["a"]), in_ms(1_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["=a"]);
        }
    };
    works();
    assert_eq!(files().len(), 2, "plain and resettable");
    let written = std::fs::metadata(&files()[0]).unwrap().modified().unwrap();
    works();
    assert_eq!(
        std::fs::metadata(&files()[0]).unwrap().modified().unwrap(),
        written,
        "loaded, not made again"
    );
    for path in files() {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
    }
    works();
    let mut repaired = std::fs::read(&files()[0]).unwrap();
    let middle = repaired.len() / 2;
    repaired[middle] ^= 1;
    std::fs::write(&files()[0], &repaired).unwrap();
    works();
}
