//! A module of a seed, by wasm-smith.
//!
//! Everything that the pool accepts may occur, and nothing else. Results must not depend on the machine, so NaNs are made canonical and only imports
//! that always answer the same are offered. Most modules end by themselves, after a number of loops and calls; one in eight need not.

use arbitrary::Unstructured;
use wasm_smith::{Config, Module};
use wasmparser::{Validator, WasmFeatures};

/// What a module may import.
const IMPORTS: &str = r#"(module
  (import "etl" "log" (func (param i32 i32 i32)))
  (import "etl" "counter" (func (param i32 i32 i64)))
  (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))))"#;

/// Bytes that decide one module, at most.
const MOST_BYTES: u64 = 6_000;

/// Loops and calls after which a module that has to end ends.
const FUEL: u32 = 2_000;

/// Splitmix64: every seed, also one that is like another, gives bytes of its own.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn config(random: &mut Random, references: bool) -> Config {
    Config {
        available_imports: wat::parse_str(IMPORTS).ok(),
        max_imports: random.below(4) as usize,
        // Where every access is in bounds and no division by zero, calls run longer; where not, they end in more ways.
        disallow_traps: random.below(2) == 0,
        allow_start_export: random.below(4) == 0,
        canonicalize_nans: true,
        max_exports: 0,
        min_funcs: 1,
        max_funcs: 12,
        max_instructions: 400,
        max_types: 20,
        max_globals: 10,
        min_memories: 1,
        max_memories: 1,
        max_memory32_bytes: 3 << 16,
        max_tables: 3,
        max_table_elements: 1_000,
        max_data_segments: 4,
        max_element_segments: 4,
        max_elements: 20,
        reference_types_enabled: references,
        bulk_memory_enabled: true,
        multi_value_enabled: true,
        simd_enabled: true,
        extended_const_enabled: true,
        relaxed_simd_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        compact_imports_enabled: false,
        memory64_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}

/// The module of a seed.
pub fn module(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let references = random.below(4) == 0;
    loop {
        let config = config(&mut random, references);
        let length = 64 + random.below(MOST_BYTES);
        let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        // Some bytes make no module; the next ones may.
        let Ok(mut module) = Module::new(config, &mut Unstructured::new(&bytes)) else {
            continue;
        };
        // Fails only for functions of arbitrary bytes, which are not asked for.
        if random.below(8) != 0 && module.ensure_termination(FUEL).is_err() {
            continue;
        }
        let bytes = module.to_bytes();
        if is_accepted(&bytes) {
            return bytes;
        }
    }
}

/// Whether nothing in it is beyond what the pool accepts: wasm-smith cannot leave out `externref` alone, which counts as garbage-collected.
fn is_accepted(bytes: &[u8]) -> bool {
    let features = WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::EXTENDED_CONST;
    Validator::new_with_features(features)
        .validate_all(bytes)
        .is_ok()
}
