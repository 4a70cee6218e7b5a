//! A set of numbers that mostly follow one another, kept as the stretches that they form: records are done nearly in their order, so
//! however many there are, the gaps are few.

use std::collections::BTreeMap;

/// Numbers, as stretches that neither overlap nor touch.
#[derive(Default)]
pub(super) struct Stretches {
    /// The last of each, by its first.
    ends: BTreeMap<u64, u64>,
}

impl Stretches {
    pub(super) fn holds(&self, number: u64) -> bool {
        let before = self.ends.range(..=number).next_back();
        before.is_some_and(|(_, last)| *last >= number)
    }

    pub(super) fn add(&mut self, number: u64) {
        let before = self.ends.range_mut(..=number).next_back();
        let first = match before {
            Some((_, last)) if *last >= number => return,
            Some((first, last)) if *last + 1 == number => {
                *last = number;
                *first
            }
            _ => {
                self.ends.insert(number, number);
                number
            }
        };
        if let Some(last) = self.ends.remove(&(number + 1)) {
            self.ends.insert(first, last);
        }
    }

    /// Forgets everything up to this number.
    pub(super) fn forget_to(&mut self, number: u64) {
        let after = self.ends.split_off(&(number + 1));
        let reaches = self.ends.last_key_value().map(|(_, last)| *last);
        self.ends = after;
        if let Some(last) = reaches.filter(|last| *last > number) {
            self.ends.insert(number + 1, last);
        }
    }

    /// Forgets the first where there are more stretches than so many.
    pub(super) fn forget_beyond(&mut self, most: usize) {
        while self.ends.len() > most {
            self.ends.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Add(u64),
        ForgetTo(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            9 => (0..40_u64).prop_map(Step::Add),
            1 => (0..40_u64).prop_map(Step::ForgetTo),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec(step(), 0..80)) {
            let (mut stretches, mut set) = (Stretches::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Add(number) => {
                        stretches.add(number);
                        set.insert(number);
                    }
                    Step::ForgetTo(number) => {
                        stretches.forget_to(number);
                        set = set.split_off(&(number + 1));
                    }
                }
                for number in 0..42 {
                    prop_assert_eq!(stretches.holds(number), set.contains(&number), "{}", number);
                }
                // As few as there are gaps.
                let begins = set.iter().filter(|number| !number.checked_sub(1).is_some_and(|before| set.contains(&before)));
                prop_assert_eq!(stretches.ends.len(), begins.count());
            }
        }
    }

    #[test]
    fn what_is_too_much_is_forgotten_from_the_beginning() {
        let mut stretches = Stretches::default();
        (0..10).for_each(|number| stretches.add(2 * number));
        stretches.forget_beyond(3);
        assert!(!stretches.holds(12) && stretches.holds(14) && stretches.holds(18));
    }
}
