//! The desk against a model that keeps one list for each partition.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const PARTITIONS: usize = 3;

fn desk() -> Desk {
    let desk = Desk::default();
    let places: Vec<Place> = (0..PARTITIONS)
        .map(|partition| ("t".into(), partition as i32))
        .collect();
    desk.assigned(&places);
    desk
}

fn put(desk: &Desk, partition: usize, offset: u64) {
    if let Some((slot, topic)) = desk.slot("t", partition as i32) {
        let mut record = Record::new(topic, "v");
        record.partition = partition as u32;
        record.offset = offset;
        desk.put(slot, offset, Ok(Arc::new(record)));
    }
}

fn take(desk: &Desk, records: usize, paused: &HashSet<PartitionKey>) -> Vec<Item> {
    let demand = Demand {
        records,
        bytes: usize::MAX,
        paused,
    };
    match desk.take(&demand) {
        Found::Batch(batch) => batch.items,
        Found::Nothing(_) => Vec::new(),
        _ => panic!("neither records nor nothing"),
    }
}

fn key(partition: usize) -> PartitionKey {
    PartitionKey::of("t", partition as u32)
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize),
    Take(usize, Option<usize>),
    /// Which of those that were given out.
    Safe(Vec<prop::sample::Index>),
    GiveBack(prop::sample::Index),
    Reassign(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..PARTITIONS;
    let step = prop_oneof![
        6 => partition.clone().prop_map(Step::Put),
        3 => (1..20_usize, prop::option::of(partition.clone())).prop_map(|(n, p)| Step::Take(n, p)),
        3 => prop::collection::vec(any::<prop::sample::Index>(), 1..8).prop_map(Step::Safe),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        1 => partition.prop_map(Step::Reassign),
    ];
    prop::collection::vec(step, 1..120)
}

/// A partition, naively.
#[derive(Default, Clone)]
struct Model {
    waiting: Vec<u64>,
    given: Vec<(u64, AckToken, bool)>,
    next_offset: u64,
    committed: u64,
}

proptest! {
    #[test]
    fn it_does_what_lists_would(steps in steps()) {
        let desk = desk();
        let mut model = vec![Model::default(); PARTITIONS];
        let mut stale: Vec<AckToken> = Vec::new();
        for step in steps {
            match step {
                Step::Put(partition) => {
                    let own = &mut model[partition];
                    put(&desk, partition, own.next_offset);
                    own.waiting.push(own.next_offset);
                    // Offsets have gaps where a transaction ended.
                    own.next_offset += 1 + own.next_offset % 3 / 2;
                }
                Step::Take(records, paused) => {
                    let paused: HashSet<_> = paused.into_iter().map(key).collect();
                    let items = take(&desk, records, &paused);
                    let there: usize = (0..PARTITIONS)
                        .filter(|partition| !paused.contains(&key(*partition)))
                        .map(|partition| model[partition].waiting.len())
                        .sum();
                    prop_assert_eq!(items.len(), there.min(records));
                    for item in items {
                        prop_assert!(!paused.contains(&item.partition));
                        let partition = (0..PARTITIONS).find(|own| key(*own) == item.partition);
                        let own = &mut model[partition.expect("is one of them")];
                        prop_assert_eq!(item.position, own.waiting.remove(0));
                        own.given.push((item.position, item.token, false));
                    }
                }
                Step::Safe(which) => {
                    let given: Vec<AckToken> =
                        model.iter().flat_map(|own| own.given.iter().map(|(_, token, _)| *token)).collect();
                    let mut tokens: Vec<AckToken> = stale.clone();
                    if !given.is_empty() {
                        tokens.extend(which.iter().map(|index| *index.get(&given)));
                    }
                    for own in &mut model {
                        for (_, token, safe) in &mut own.given {
                            *safe |= tokens.contains(token);
                        }
                        while own.given.first().is_some_and(|(_, _, safe)| *safe) {
                            own.committed = own.given.remove(0).0 + 1;
                        }
                    }
                    for next in desk.safe(&tokens) {
                        prop_assert_eq!(next.offset, model[next.partition as usize].committed);
                    }
                }
                Step::GiveBack(index) => {
                    let given: Vec<(usize, u64, AckToken)> = model.iter().enumerate()
                        .flat_map(|(partition, own)| own.given.iter().map(move |(offset, token, _)| (partition, *offset, *token)))
                        .collect();
                    if given.is_empty() {
                        continue;
                    }
                    let (partition, offset, token) = *index.get(&given);
                    desk.give_back(&[token], Duration::ZERO);
                    let own = &mut model[partition];
                    let from = own.given.iter().position(|(own, _, _)| *own == offset).expect("was given");
                    let back: Vec<u64> = own.given.drain(from..).map(|(offset, _, _)| offset).collect();
                    own.waiting.splice(0..0, back);
                }
                Step::Reassign(partition) => {
                    let place: Place = ("t".into(), partition as i32);
                    let own = &mut model[partition];
                    stale.extend(own.given.iter().map(|(_, token, _)| *token));
                    let at_once = desk.revoked(std::slice::from_ref(&place), false);
                    prop_assert_eq!(at_once, own.given.is_empty());
                    if !at_once {
                        let found = desk.take(&Demand { records: 1, bytes: 1, paused: &HashSet::new() });
                        prop_assert!(matches!(found, Found::Going(going) if going.keys == [key(partition)]));
                        prop_assert_eq!(desk.released(&[key(partition)]), std::slice::from_ref(&place));
                    }
                    desk.assigned(std::slice::from_ref(&place));
                    let from = own.committed;
                    *own = Model { next_offset: from, committed: from, ..Model::default() };
                }
            }
        }
    }
}

#[test]
fn one_partition_that_nobody_takes_leaves_room_for_the_others() {
    let desk = desk();
    for offset in 0..RECORDS as u64 {
        put(&desk, 0, offset);
    }
    let Room::Stuck(paused) = desk.room(Duration::from_millis(1)) else {
        panic!("there is room");
    };
    assert_eq!(paused, [("t".into(), 0)]);
    put(&desk, 1, 0);
    assert!(matches!(desk.room(Duration::ZERO), Room::Free(resumed) if resumed.is_empty()));
    let without = HashSet::from([key(0)]);
    assert_eq!(take(&desk, 10, &without).len(), 1);
    // Once all of it was taken it is fetched again.
    assert_eq!(take(&desk, 2 * RECORDS, &HashSet::new()).len(), RECORDS);
    assert!(matches!(desk.room(Duration::ZERO), Room::Free(resumed) if resumed == paused));
}

#[test]
fn what_was_given_back_waits_as_long_as_it_was_told_to() {
    let desk = desk();
    put(&desk, 0, 0);
    put(&desk, 1, 0);
    let items = take(&desk, 2, &HashSet::new());
    desk.give_back(&[items[0].token], Duration::from_secs(3_600));
    let none = HashSet::new();
    let found = desk.take(&Demand {
        records: 2,
        bytes: 1,
        paused: &none,
    });
    let Found::Nothing(Some(until)) = found else {
        panic!("it does not wait");
    };
    assert!(until > Instant::now() + Duration::from_secs(3_000));
    desk.give_back(&[items[1].token], Duration::ZERO);
    let again = take(&desk, 2, &HashSet::new());
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].partition, again[0].redelivered),
        (items[1].partition, 1)
    );
}

#[test]
fn offsets_that_go_back_are_other_records() {
    let desk = desk();
    for offset in 10..13 {
        put(&desk, 0, offset);
    }
    let before = take(&desk, 2, &HashSet::new());
    assert!(desk.positions(&tokens(&before)).is_some());
    // The topic was made anew.
    for offset in 0..20 {
        put(&desk, 0, offset);
    }
    let after = take(&desk, 100, &HashSet::new());
    let offsets: Vec<u64> = after.iter().map(|item| item.position).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<u64>>());
    assert_eq!(desk.positions(&tokens(&before)), None);
    assert_eq!(desk.safe(&tokens(&before)), []);
    let next = desk.safe(&tokens(&after));
    assert_eq!(
        next.iter().map(|next| next.offset).collect::<Vec<_>>(),
        [20]
    );
}

#[test]
fn a_partition_may_be_ours_again_before_it_has_gone() {
    let desk = desk();
    put(&desk, 0, 0);
    let before = take(&desk, 1, &HashSet::new());
    let place: Place = ("t".into(), 0);
    assert!(!desk.revoked(std::slice::from_ref(&place), true));
    let owns = |items: &[Item]| desk.owns(parts(items[0].token).0);
    assert!(!owns(&before), "somebody else may have it by now");
    desk.assigned(std::slice::from_ref(&place));
    put(&desk, 0, 0);
    let found = desk.take(&Demand {
        records: 1,
        bytes: 1,
        paused: &HashSet::new(),
    });
    assert!(matches!(found, Found::Going(going) if going.lost));
    assert_eq!(desk.released(&[key(0)]), std::slice::from_ref(&place));
    let again = take(&desk, 1, &HashSet::new());
    assert!(owns(&again) && !owns(&before));
    assert_eq!(desk.safe(&tokens(&before)), []);
    assert_eq!(desk.safe(&tokens(&again)).len(), 1);
}

#[test]
fn a_partition_is_exhausted_at_its_end_once_all_was_given_out() {
    let desk = desk();
    let place: Place = ("t".into(), 1);
    put(&desk, 1, 0);
    assert!(!desk.is_exhausted(&place));
    desk.at_end(1);
    assert!(!desk.is_exhausted(&place));
    take(&desk, 1, &HashSet::new());
    assert!(desk.is_exhausted(&place));
    put(&desk, 1, 1);
    assert!(!desk.is_exhausted(&place));
}

fn tokens(items: &[Item]) -> Vec<AckToken> {
    items.iter().map(|item| item.token).collect()
}
