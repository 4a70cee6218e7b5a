//! The guests of the soak, as text, the folder that they lie in, and the configuration that calls them.

use std::path::{Path, PathBuf};

use etl_config::{LoadOptions, Loaded, load};

/// First bytes of values that `moody` does not like: it traps, answers from outside its memory, refuses, loops for ever.
pub const POISON: [u8; 4] = *b"!#%@";

/// Of these, the one that makes it loop.
pub const LOOP: u8 = b'@';

/// Topics, from the most urgent; each has a pipeline of its own.
pub const TOPICS: [&str; 3] = ["soak.urgent", "soak.parallel", "soak.retry"];

/// A folder with the guests and the configuration.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// With the first version of everything.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        std::fs::create_dir(folder.path().join("modules")).map_err(|error| error.to_string())?;
        let folder = Self(folder);
        folder.put("modules/moody.wasm", &wasm(MOODY)?)?;
        folder.stamp(0)?;
        Ok(folder)
    }

    /// Replaces the module `stamp` by another version.
    pub fn stamp(&self, version: u64) -> Result<(), String> {
        self.put("modules/stamp.wasm", &wasm(&stamp(version))?)
    }

    /// Replaces it by something that is no module.
    pub fn spoil(&self) -> Result<(), String> {
        self.put("modules/stamp.wasm", b"\0asm, and then nothing of the kind")
    }

    /// The configuration as it is to be, with another number in it, so that it is another one.
    pub fn configuration(&self, number: u64) -> Result<Loaded, String> {
        self.load(&good(number))
    }

    /// A configuration that loads and that cannot be built.
    pub fn bad_configuration(&self) -> Result<Loaded, String> {
        self.load(
            r#"
[[pipelines]]
pipeline_id = "bad"
stages = [{ priority = 0, modules = [{ module_id = "moody", topic_filters = [{ filter_type = "Regex", pattern = "(" }] }] }]
"#,
        )
    }

    fn load(&self, text: &str) -> Result<Loaded, String> {
        self.put("etl.toml", text.as_bytes())?;
        load(self.path("etl.toml"), &LoadOptions::isolated()).map_err(|report| report.to_string())
    }

    /// As deployments do it: written beside, then renamed into place.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let (file, beside) = (self.path(name), self.path("beside"));
        std::fs::write(&beside, bytes)
            .and_then(|()| std::fs::rename(&beside, &file))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.0.path(), name)
    }
}

fn wasm(text: &str) -> Result<Vec<u8>, String> {
    wat::parse_str(text).map_err(|error| error.to_string())
}

/// Appends one digit, that of its version, and never frees: it wears out after some hundred records, again and again.
fn stamp(version: u64) -> String {
    let digit = b'0' + (version % 10) as u8;
    format!(
        r#"(module
  (memory (export "memory") 1 1)
  (global $next (mut i32) (i32.const 8))
  (func $allocate (export "allocate") (param $length i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (local.get $at) (local.get $length)))
    (if (i32.gt_u (global.get $next) (i32.const 65536)) (then unreachable))
    (local.get $at))
  (func (export "transform") (param $at i32) (param $length i32) (result i32)
    (local $out i32)
    (local.set $out (call $allocate (i32.add (local.get $length) (i32.const 5))))
    (i32.store (local.get $out) (i32.add (local.get $length) (i32.const 1)))
    (memory.copy (i32.add (local.get $out) (i32.const 4)) (local.get $at) (local.get $length))
    (i32.store8 offset=4 (i32.add (local.get $out) (local.get $length)) (i32.const {digit}))
    (local.get $out)))"#
    )
}

/// Answers the value as it is, but for values that begin with one of [`POISON`].
const MOODY: &str = r#"(module
  (memory (export "memory") 1 1)
  (func (export "allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "transform") (param $at i32) (param $length i32) (result i32)
    (local $first i32)
    (local.set $first (i32.load8_u (local.get $at)))
    (if (i32.eq (local.get $first) (i32.const 33)) (then unreachable))
    (if (i32.eq (local.get $first) (i32.const 35))
      (then (i32.store (i32.const 512) (i32.const 70000)) (return (i32.const 512))))
    (if (i32.eq (local.get $first) (i32.const 37)) (then (return (i32.const -7))))
    (if (i32.eq (local.get $first) (i32.const 64)) (then (loop $again (br $again))))
    (i32.store (i32.const 1020) (local.get $length))
    (i32.const 1020)))"#;

/// Every pipeline stamps twice, so that a record that met two versions shows it, and calls the moody module in between or beside.
fn good(number: u64) -> String {
    let moody =
        "{ module_id = \"moody\", instance_config = { execution_timeout_ms = 100 }, FILTER }";
    let stamp = "{ module_id = \"stamp\", FILTER }";
    let pipeline = |topic: &str, handling: &str, stages: &str| {
        let filter =
            format!("topic_filters = [{{ filter_type = \"Exact\", pattern = \"{topic}\" }}]");
        format!(
            "[[pipelines]]\npipeline_id = \"{topic}\"\nname = \"number {number}\"\nerror_handling = {handling}\n{stages}\n"
        )
        .replace("FILTER", &filter)
    };
    let [urgent, parallel, retry] = TOPICS;
    let mut text = "[engine]\nlanes = 2\nmax_in_flight_records = 4096\n".to_owned();
    text.push_str(&pipeline(
        urgent,
        "\"SendToDeadLetter\"",
        &format!("stages = [{{ priority = 0, modules = [{stamp}, {moody}, {stamp}] }}]"),
    ));
    text.push_str(&pipeline(
        parallel,
        "\"SkipModule\"",
        &format!("stages = [{{ priority = 1, parallel_execution = true, modules = [{moody}, {stamp}] }}, {{ priority = 2, modules = [{stamp}] }}]"),
    ));
    text.push_str(&pipeline(
        retry,
        "\"RetryWithBackoff\"\nmax_retries = 1",
        &format!("stages = [{{ priority = 3, modules = [{stamp}, {moody}] }}, {{ priority = 4, modules = [{stamp}] }}]"),
    ));
    text
}
