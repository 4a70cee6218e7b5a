//! A path and a payload, both from the fuzzer: the first line is the path, the rest the payload. Nothing may panic, answers
//! must agree with one another, and what is JSON must be what `serde_json` takes for it.
#![no_main]

use etl_filter::conditions::{
    Condition, ConditionKind, ConditionScratch, ConditionSetBuilder, Evidence, GroupId, Operator,
    RecordView,
};
use libfuzzer_sys::fuzz_target;

struct Payload<'a>(&'a [u8]);

impl RecordView for Payload<'_> {
    fn header(&self, _name: &str) -> Option<&[u8]> {
        Some(self.0)
    }
    fn value(&self) -> &[u8] {
        self.0
    }
    fn length(&self) -> usize {
        self.0.len()
    }
    fn timestamp(&self) -> Option<i64> {
        None
    }
}

fuzz_target!(|data: &[u8]| {
    let line = data
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(data.len());
    let Ok(path) = std::str::from_utf8(&data[..line]) else {
        return;
    };
    let payload = data.get(line + 1..).unwrap_or_default();

    let mut builder = ConditionSetBuilder::new();
    let mut add = |kind: ConditionKind, operator| -> GroupId {
        let text = Condition::new(kind.clone(), operator, "1");
        let number = Condition::new(kind, operator, 1);
        let textual = matches!(
            operator,
            Operator::Contains | Operator::StartsWith | Operator::EndsWith | Operator::Matches
        );
        builder.add(if textual { vec![text] } else { vec![number] })
    };
    let groups: Vec<GroupId> = Operator::ALL
        .iter()
        .map(|&operator| add(ConditionKind::payload(path), operator))
        .collect();
    let header = add(ConditionKind::header("h"), Operator::LessThan);
    let whole = add(ConditionKind::payload("$"), Operator::Equals);
    let every = add(ConditionKind::payload("$[*]"), Operator::Equals);
    let set = match builder.build() {
        Ok(set) => set,
        Err(error) => {
            for problem in error.problems() {
                assert!(
                    problem.span().is_none_or(|span| path.get(span).is_some()),
                    "{problem}"
                );
            }
            return;
        }
    };

    let record = Payload(payload);
    let all: Vec<GroupId> = groups
        .iter()
        .copied()
        .chain([header, whole, every])
        .collect();
    let selection = set.select(&all);
    let mut together = ConditionScratch::new();
    for &group in &all {
        let answer = set.evaluate_in(&selection, group, &record, &mut together);
        let mut alone = ConditionScratch::new();
        assert_eq!(answer, set.evaluate(group, &record, &mut alone), "{path}");
        assert_eq!(answer, set.explain(group, &record, 0).holds(), "{path}");
    }

    // Depth is the fuzzer's to choose, the stack is not.
    let depth = payload
        .iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count();
    if depth > 200 {
        return;
    }
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    deserializer.disable_recursion_limit();
    let read: Result<serde_json::Value, _> = serde::Deserialize::deserialize(&mut deserializer);
    let theirs = read.and_then(|_| deserializer.end());
    if theirs
        .as_ref()
        .is_err_and(|error| error.to_string().contains("out of range"))
    {
        return;
    }
    let ours = *set.explain(every, &record, 0).conditions()[0].evidence() != Evidence::NotJson;
    assert_eq!(ours, theirs.is_ok());
});
