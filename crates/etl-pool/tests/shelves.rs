//! Which instance is taken, kept and given up: a lane's shelves against a plain model of them, and several lanes against the budgets.
//!
//! The guests are the fake engine's: each answers how many records it has seen, so an answer tells which instance gave it, and traps on `!`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_abi::{NewRecord, Verdict};
use etl_pool::testing::{Behaviour, FakeEngine};
use etl_pool::{FailureKind, InstanceOptions, ModuleSource, Pool, PoolOptions, Shelves, Template};
use proptest::prelude::*;

const TEMPLATES: usize = 4;

/// Hours. A half, so that no whole number of hours meets it.
const IDLE_TIMEOUT: f64 = 10.5;

#[derive(Clone, Debug)]
enum Step {
    /// A call for so many records.
    Call(usize, usize),
    /// A call for a record that traps.
    Poison(usize),
    Warm(usize, usize),
    /// So many hours later, what is idle is looked after.
    Tend(u32),
    /// The template goes, and comes back as a new one.
    Replace(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let template = 0..TEMPLATES;
    let step = prop_oneof![
        6 => (template.clone(), 1..4_usize).prop_map(|(template, records)| Step::Call(template, records)),
        2 => template.clone().prop_map(Step::Poison),
        2 => (template.clone(), 1..4_usize).prop_map(|(template, count)| Step::Warm(template, count)),
        2 => (0..12_u32).prop_map(Step::Tend),
        1 => template.prop_map(Step::Replace),
    ];
    prop::collection::vec(step, 1..60)
}

fn pool(most: usize) -> Arc<Pool<FakeEngine>> {
    let options = PoolOptions {
        max_pool_size: most,
        idle_timeout: Duration::from_secs_f64(IDLE_TIMEOUT * 3_600.0),
        ..PoolOptions::default()
    };
    Pool::with_engine(FakeEngine, options).expect("the options are valid")
}

fn template(pool: &Arc<Pool<FakeEngine>>, index: usize, most: usize) -> Arc<Template<FakeEngine>> {
    let source = ModuleSource {
        id: "counting",
        bytes: &FakeEngine::module(Behaviour::Count),
        expected_sha256: None,
    };
    let options = InstanceOptions {
        custom_config: index.to_string().into_bytes().into(),
        max_concurrent_instances: Some(most),
        ..InstanceOptions::default()
    };
    let module = pool.load(source).expect("a script");
    Template::new(module, options).expect("the options are valid")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// What each record was answered: how many records its instance had seen then, or why not.
fn call(
    shelves: &mut Shelves<FakeEngine>,
    template: &Arc<Template<FakeEngine>>,
    value: &str,
    records: usize,
) -> Result<Vec<String>, FailureKind> {
    let record = NewRecord {
        topic: "topic",
        value: value.as_bytes(),
        ..NewRecord::default()
    };
    let verdicts = shelves
        .call(template, &vec![record; records], soon())
        .map_err(|error| error.kind())?;
    let answers = (0..records).map(|index| match verdicts.get(index) {
        Ok(Verdict::SetValue(seen)) => Ok(String::from_utf8_lossy(seen).into_owned()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.kind()),
    });
    answers.collect()
}

/// An instance, as the model knows it.
struct Instance {
    seen: usize,
    idle_since: Option<f64>,
}

#[derive(Default)]
struct Shelf {
    /// Idle instances, the last used behind.
    idle: Vec<Instance>,
    last_used: u64,
    created: u64,
    misses: u64,
}

/// One lane that nobody shares the pool with, in as few words as possible.
struct Model {
    shelves: Vec<Shelf>,
    most: usize,
    most_of: Vec<usize>,
    calls: u64,
}

impl Model {
    fn live(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.idle.len()).sum()
    }

    /// Drops the coldest instance of the shelf that was not used for longest.
    fn give_up(&mut self, may: impl Fn(usize) -> bool) -> bool {
        let shelf = (0..self.shelves.len())
            .filter(|&index| may(index) && !self.shelves[index].idle.is_empty())
            .min_by_key(|&index| self.shelves[index].last_used);
        if let Some(index) = shelf {
            self.shelves[index].idle.remove(0);
        }
        shelf.is_some()
    }

    /// A new instance, for which what is idle gives way: all of it to a call, that of others to what is made ready.
    fn make(&mut self, index: usize, for_a_call: bool) -> Option<Instance> {
        if self.shelves[index].idle.len() == self.most_of[index]
            && !(for_a_call && self.give_up(|other| other == index))
        {
            return None;
        }
        if self.live() == self.most && !self.give_up(|other| for_a_call || other != index) {
            return None;
        }
        self.shelves[index].created += 1;
        Some(Instance {
            seen: 0,
            idle_since: None,
        })
    }

    /// An instance for a call: the last used, or a new one.
    fn take(&mut self, index: usize) -> Instance {
        match self.shelves[index].idle.pop() {
            Some(instance) => instance,
            None => {
                self.shelves[index].misses += 1;
                self.make(index, true).expect("nobody else has any")
            }
        }
    }

    fn call(&mut self, index: usize, records: usize) -> Vec<String> {
        self.calls += 1;
        let mut instance = self.take(index);
        self.shelves[index].last_used = self.calls;
        let answers = (0..records).map(|_| {
            instance.seen += 1;
            (instance.seen % 10).to_string()
        });
        let answers = answers.collect();
        instance.idle_since = None;
        self.shelves[index].idle.push(instance);
        answers
    }

    /// What has served before is not believed at once: the record is tried once more, on a fresh instance.
    fn poison(&mut self, index: usize) {
        self.calls += 1;
        let worn = self.take(index).seen > 0;
        if worn {
            self.shelves[index].misses += 1;
            self.make(index, true);
        }
        self.shelves[index].last_used = self.calls;
    }

    fn warm(&mut self, index: usize, count: usize) -> Option<usize> {
        while self.shelves[index].idle.len() < count {
            let mut instance = self.make(index, false)?;
            // The test's clock is not the one that is read here: at the beginning of both.
            instance.idle_since = Some(0.0);
            self.shelves[index].idle.push(instance);
        }
        Some(self.shelves[index].idle.len())
    }

    fn tend(&mut self, now: f64) {
        for shelf in &mut self.shelves {
            shelf.idle.retain_mut(|instance| {
                now - *instance.idle_since.get_or_insert(now) < IDLE_TIMEOUT
            });
        }
    }
}

proptest! {
    #[test]
    fn a_lane_keeps_what_a_plain_model_keeps(
        most in 1..6_usize,
        most_of in prop::collection::vec(1..4_usize, TEMPLATES),
        steps in steps(),
    ) {
        let pool = pool(most);
        let mut shelves = pool.shelves();
        // Nobody else holds anything, so there is never anything to wait for.
        shelves.never_wait();
        let mut templates: Vec<_> = (0..TEMPLATES)
            .map(|index| template(&pool, index, most_of[index]))
            .collect();
        let mut model = Model {
            shelves: (0..TEMPLATES).map(|_| Shelf::default()).collect(),
            most,
            most_of: most_of.clone(),
            calls: 0,
        };
        let (start, mut hours) = (Instant::now(), 0.0);
        for step in steps {
            match step {
                Step::Call(index, records) => {
                    let answers = call(&mut shelves, &templates[index], "a", records);
                    prop_assert_eq!(answers, Ok(model.call(index, records)));
                }
                Step::Poison(index) => {
                    let answers = call(&mut shelves, &templates[index], "!", 1);
                    prop_assert_eq!(answers, Err(FailureKind::Trap));
                    model.poison(index);
                }
                Step::Warm(index, count) => {
                    let ready = shelves.warm(&templates[index], count, soon());
                    prop_assert_eq!(ready.ok(), model.warm(index, count));
                }
                Step::Tend(later) => {
                    hours += f64::from(later);
                    shelves.tend(start + Duration::from_secs_f64(hours * 3_600.0));
                    model.tend(hours);
                }
                Step::Replace(index) => {
                    let gone = template(&pool, TEMPLATES, 1);
                    let old = std::mem::replace(&mut templates[index], gone);
                    drop(old);
                    templates[index] = template(&pool, index, most_of[index]);
                    shelves.tend(start + Duration::from_secs_f64(hours * 3_600.0));
                    model.tend(hours);
                    model.shelves[index] = Shelf::default();
                }
            }
            for (template, shelf) in templates.iter().zip(&model.shelves) {
                let stats = template.stats();
                prop_assert_eq!(template.instances(), shelf.idle.len());
                prop_assert_eq!((stats.created, stats.misses), (shelf.created, shelf.misses));
                prop_assert_eq!(stats.created - stats.destroyed, shelf.idle.len() as u64);
            }
            prop_assert_eq!((shelves.idle(), pool.instances()), (model.live(), model.live()));
        }
        drop(shelves);
        prop_assert_eq!((pool.instances(), pool.memory_bytes()), (0, 0));
    }
}

proptest! {
    /// Lanes that do not wait, in turns: the budgets hold over all of them, and whoever was refused gets its turn once the others have given way.
    #[test]
    fn lanes_share_what_there_is(
        most in 1..6_usize,
        most_of in prop::collection::vec(1..4_usize, TEMPLATES),
        turns in prop::collection::vec((0..3_usize, 0..TEMPLATES, any::<bool>()), 1..100),
    ) {
        let pool = pool(most);
        let mut lanes: Vec<_> = (0..3).map(|_| pool.shelves()).collect();
        for lane in &mut lanes {
            lane.never_wait();
        }
        let templates: Vec<_> = (0..TEMPLATES)
            .map(|index| template(&pool, index, most_of[index]))
            .collect();
        for (lane, index, comes_back) in turns {
            let served = call(&mut lanes[lane], &templates[index], "a", 1);
            if let Err(kind) = &served {
                prop_assert_eq!(*kind, FailureKind::PoolExhausted);
                let gave = lanes.iter_mut().map(Shelves::give_way).filter(|&gave| gave).count();
                prop_assert!(gave > 0, "what is idle elsewhere is given up");
                if comes_back {
                    let again = call(&mut lanes[lane], &templates[index], "a", 1);
                    prop_assert_eq!(again, Ok(vec!["1".to_owned()]), "a new instance");
                }
            }
            let idle: usize = lanes.iter().map(Shelves::idle).sum();
            prop_assert_eq!(idle, pool.instances(), "nobody is in the middle of a call");
            prop_assert!(pool.instances() <= most);
            for (template, &most) in templates.iter().zip(&most_of) {
                prop_assert!(template.instances() <= most);
            }
        }
        drop(lanes);
        prop_assert_eq!(pool.instances(), 0);
    }
}
