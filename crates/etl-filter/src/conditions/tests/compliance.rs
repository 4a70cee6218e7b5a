//! The compliance suite of RFC 9535, on the general path and, for singular paths, on the one-pass reader too.

use std::ops::ControlFlow;

use serde_json::Value;

use crate::conditions::path::{Evaluation, Query, Tape, Verdict, parse};
use crate::conditions::reader::{Desk, Reader, Reading, Spot};

#[test]
fn every_case_of_the_compliance_suite() {
    let Ok(folder) = std::env::var("ETL_TEST_DATA") else {
        println!("skipped: every_case_of_the_compliance_suite: set ETL_TEST_DATA");
        return;
    };
    let suite = std::fs::read(std::path::Path::new(&folder).join("rfc9535-cts.json")).unwrap();
    let suite: Value = serde_json::from_slice(&suite).unwrap();
    let (mut refused, mut selected, mut singular) = (0, 0, 0);
    // Some under Miri, which is a thousand times slower.
    let stride = if cfg!(miri) { 20 } else { 1 };
    let cases = suite["tests"].as_array().unwrap();
    assert_eq!(cases.len(), 703);
    for case in cases.iter().step_by(stride) {
        let name = case["name"].as_str().unwrap();
        let selector = case["selector"].as_str().unwrap();
        let query = parse(selector);
        if case["invalid_selector"] == true {
            let fault = query.expect_err(name);
            let span = fault.span.expect(name);
            assert!(
                selector.get(span).is_some(),
                "{name}: the span lies in the selector"
            );
            refused += 1;
            continue;
        }
        let query = query.unwrap_or_else(|fault| panic!("{name}: {selector}: {fault:?}"));
        let document = case["document"].to_string();
        let found = select(&query, document.as_bytes());
        match case["results"].as_array() {
            Some(allowed) => assert!(
                allowed.contains(&Value::Array(found.clone())),
                "{name}: {selector}: {found:?}"
            ),
            None => assert_eq!(
                Value::Array(found.clone()),
                case["result"],
                "{name}: {selector}"
            ),
        }
        selected += 1;
        if let Some(steps) = query.steps() {
            let mut readings = [Reading {
                epoch: 0,
                spot: Spot::Undecided,
            }];
            Reader::new([(0, &*steps)]).read(
                document.as_bytes(),
                1,
                &mut readings,
                &mut Desk::default(),
            );
            let read: Vec<Value> = match readings[0].spot {
                Spot::Found { start, end, .. } => {
                    vec![serde_json::from_str(&document[start..end]).unwrap()]
                }
                Spot::Missing => Vec::new(),
                spot => panic!("{name}: {spot:?}"),
            };
            assert_eq!(read, found, "{name}: {selector}, in one pass");
            singular += 1;
        }
    }
    assert_eq!(refused + selected, cases.len().div_ceil(stride));
    assert!(singular * stride > 50, "only {singular} singular paths");
}

fn select(query: &Query, document: &[u8]) -> Vec<Value> {
    let mut tape = Tape::default();
    tape.read(document).unwrap();
    let evaluation = Evaluation::new(&tape, document);
    let mut found = Vec::new();
    let verdict = evaluation.run(query, &mut |node| {
        found.push(serde_json::from_slice(evaluation.text(node)).unwrap());
        ControlFlow::Continue(())
    });
    assert_eq!(verdict, Verdict::Complete);
    found
}
