//! Which scenarios there are.

use etl_tests::bench::Bench;

use crate::{
    admin_load, budget, comparison, conditions, examples, filter, growth, overshoot, own_lanes,
    pipelines, pool, single_module, wasmtime,
};

/// A scenario: its name, what it measures in a sentence, whether this thread does all of its work, and what runs it.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub pin: bool,
    pub run: fn(&mut Bench) -> Result<(), String>,
}

/// One that does its work on this thread, which is therefore kept on one processor.
const fn here(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Bench) -> Result<(), String>,
) -> Scenario {
    Scenario {
        name,
        about,
        pin: true,
        run,
    }
}

/// One whose work other threads or processes share.
const fn shared(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Bench) -> Result<(), String>,
) -> Scenario {
    Scenario {
        name,
        about,
        pin: false,
        run,
    }
}

/// All of them, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    here(
        "pass_through",
        "the topic is seen and nothing selects it",
        pipelines::pass_through,
    ),
    here(
        "single_module",
        "one module that copies, record by record and in batches of 64",
        single_module::run,
    ),
    here(
        "three_stage",
        "three stages of one module each",
        pipelines::three_stage,
    ),
    here(
        "conditional_three_stage",
        "the same with a JSON condition on each stage",
        pipelines::conditional_three_stage,
    ),
    here(
        "thousand_pipelines",
        "one pipeline among a thousand applies",
        pipelines::thousand_pipelines,
    ),
    shared(
        "async_batch",
        "batches of 256 through the engine's own lanes, one and two",
        own_lanes::async_batch,
    ),
    shared(
        "latency",
        "an open load of half of what goes through, in peace and with ten reloads a second",
        own_lanes::latency,
    ),
    shared(
        "overload",
        "twice of what goes through is offered, a tenth of it urgent",
        own_lanes::overload,
    ),
    shared(
        "admin_load",
        "thousands of reads and a change a second over the API beside a lane",
        admin_load::run,
    ),
    here(
        "filter_uncached",
        "which of many topic rules match a topic that was never seen",
        filter::uncached,
    ),
    here(
        "filter_cached",
        "the same of a topic that was seen before",
        filter::cached,
    ),
    here(
        "conditions_three_fields",
        "three conditions on JSON payloads",
        conditions::run,
    ),
    here(
        "interrupt_overhead",
        "what it costs that a module can be stopped",
        pool::interrupt_overhead,
    ),
    shared(
        "interrupt_overshoot",
        "how long after its time a module is stopped",
        overshoot::run,
    ),
    here(
        "isolation_record",
        "what it costs that a module begins every record anew",
        pool::isolation_record,
    ),
    shared(
        "warm_start",
        "a pool and seven modules out of the cache",
        pool::warm_start,
    ),
    here(
        "instances_50k",
        "a call where 50,000 instances are alive",
        pool::instances_50k,
    ),
    here(
        "example_modules",
        "the seven example modules, alone and in stages",
        examples::run,
    ),
    shared(
        "seven_modules_resident",
        "memory of an engine with the seven example modules",
        examples::seven_modules_resident,
    ),
    here(
        "budget",
        "the parts of a record's way, one by one",
        budget::run,
    ),
    here(
        "comparison",
        "other ways to do the same work",
        comparison::run,
    ),
    here(
        "growth_value_bytes",
        "a record's cost against the size of its value",
        growth::value_bytes,
    ),
    here(
        "growth_stages",
        "against the number of stages",
        growth::stages,
    ),
    here(
        "growth_pipelines",
        "against the number of pipelines, of which one applies",
        growth::pipelines,
    ),
    here(
        "growth_batch",
        "against the number of records in a batch",
        growth::batch,
    ),
    shared("growth_lanes", "against the number of lanes", growth::lanes),
    shared(
        "growth_modules",
        "memory against the number of modules",
        growth::modules,
    ),
    shared(
        "growth_instances",
        "memory against the number of instances",
        growth::instances,
    ),
    shared(
        "wasmtime",
        "the same guests on wasmtime: a call, a reset, a loop that can be stopped",
        wasmtime::run,
    ),
];
