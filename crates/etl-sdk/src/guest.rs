//! What `#[transform]` exports: frames in, frames out. Not for module authors.
//!
//! One input buffer and one output buffer live as long as the instance, so millions of calls leak nothing. The host writes only where
//! [`Guest::alloc`] pointed it to, between calls, when nothing here borrows the buffer; and [`Guest::process`] reads only
//! that buffer, so no pointer is ever dereferenced here.

use etl_abi::request::RequestReader;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};

use crate::{Error, Output, Record, Result};

/// The config of a module that takes none: accepts anything, holds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoConfig;

impl<'de> Deserialize<'de> for NoConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A function that can be a module: with or without a config, returning a [`Result`] or nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a transform",
    label = "does not have the signature of a transform",
    note = "expected fn(&Record<'_>, &mut Output) -> Result<()> or fn(&Record<'_>, &Config, &mut Output) -> Result<()>, where Config implements Deserialize"
)]
pub trait Transform<Signature> {
    /// What the module's `custom_config` is read as.
    type Config: DeserializeOwned;

    /// Runs the function.
    ///
    /// # Errors
    /// Those of the function.
    fn call(&self, record: &Record<'_>, config: &Self::Config, out: &mut Output) -> Result<()>;
}

impl<F, R> Transform<fn(R)> for F
where
    F: Fn(&Record<'_>, &mut Output) -> R,
    R: Return,
{
    type Config = NoConfig;

    #[inline]
    fn call(&self, record: &Record<'_>, _: &NoConfig, out: &mut Output) -> Result<()> {
        self(record, out).into_result()
    }
}

impl<F, C, R> Transform<fn(C, R)> for F
where
    F: Fn(&Record<'_>, &C, &mut Output) -> R,
    C: DeserializeOwned,
    R: Return,
{
    type Config = C;

    #[inline]
    fn call(&self, record: &Record<'_>, config: &C, out: &mut Output) -> Result<()> {
        self(record, config, out).into_result()
    }
}

/// What a transform may return.
pub trait Return {
    /// As a result.
    ///
    /// # Errors
    /// Those of the transform.
    fn into_result(self) -> Result<()>;
}

impl Return for () {
    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<Error>> Return for core::result::Result<(), E> {
    fn into_result(self) -> Result<()> {
        self.map_err(Into::into)
    }
}

/// Compiles only where the function can be a transform.
pub fn check<S, F: Transform<S>>(_: F) {}

/// Reads a config as `etl_init_v1` does: no bytes and `null` mean an empty object.
pub(crate) fn read_config<C: DeserializeOwned>(json: &[u8]) -> core::result::Result<C, String> {
    let json = match json.trim_ascii() {
        b"" | b"null" => b"{}",
        json => json,
    };
    serde_json::from_slice(json).map_err(|error| format!("custom_config: {error}"))
}

/// The state of an instance: its buffers and its config.
#[derive(Debug)]
pub struct Guest<C> {
    input: Vec<u8>,
    output: Output,
    config: Option<C>,
    message: String,
}

impl<C: DeserializeOwned> Guest<C> {
    /// Without buffers yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            input: Vec::new(),
            output: Output::new(),
            config: None,
            message: String::new(),
        }
    }

    /// `etl_alloc_v1`: where the next frame may be written; 0 where memory does not suffice.
    pub fn alloc(&mut self, length: usize) -> usize {
        if self.input.is_empty() {
            log_panics();
        }
        // Never empty, so that the pointer is to memory of our own.
        let length = length.max(1);
        if length > self.input.len() {
            if self.input.try_reserve(length - self.input.len()).is_err() {
                return 0;
            }
            // All that was reserved, so that a frame a little longer than the last does not come back for more.
            self.input.resize(self.input.capacity(), 0);
        }
        self.input.as_mut_ptr().expose_provenance()
    }

    /// `etl_init_v1`: reads the config. 0, or the packed region of a message that says what is wrong with it.
    pub fn init(&mut self, pointer: usize, length: usize) -> u64 {
        match read_config(input(&self.input, pointer, length)) {
            Ok(config) => {
                self.config = Some(config);
                0
            }
            Err(message) => {
                self.message = message;
                packed(self.message.as_bytes())
            }
        }
    }

    /// `etl_process_v1`: a request frame to a response frame, packed; 0 where every record is kept.
    pub fn process<S>(
        &mut self,
        pointer: usize,
        length: usize,
        transform: &impl Transform<S, Config = C>,
    ) -> u64 {
        let frame = input(&self.input, pointer, length);
        process(frame, &mut self.config, &mut self.output, transform).map_or(0, packed)
    }
}

impl<C: DeserializeOwned> Default for Guest<C> {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes that the host wrote.
///
/// # Panics
/// Where the host did not write them to what `alloc` handed out last: the host is at fault, and a trap says so.
fn input(input: &[u8], pointer: usize, length: usize) -> &[u8] {
    match input.get(..length) {
        Some(frame) if pointer == input.as_ptr().addr() => frame,
        _ => panic!("the frame is not where etl_alloc_v1 said"),
    }
}

/// Runs the transform over every record of a request frame and answers the response frame.
///
/// # Panics
/// On a frame that is not valid, or where no config was given and the module needs one: a trap tells the host.
pub(crate) fn process<'a, S, T: Transform<S>>(
    frame: &[u8],
    config: &mut Option<T::Config>,
    output: &'a mut Output,
    transform: &T,
) -> Option<&'a [u8]> {
    let config =
        config.get_or_insert_with(|| read_config(b"{}").unwrap_or_else(|error| panic!("{error}")));
    let request = RequestReader::parse(frame).unwrap_or_else(|error| panic!("{error}"));
    output.begin(request.len());
    for record in request.iter() {
        let record = record.unwrap_or_else(|error| panic!("{error}"));
        output.record(record.timestamp(), |output| {
            transform.call(&Record::new(record), config, output)
        });
    }
    output.finish().unwrap_or_else(|error| panic!("{error}"))
}

/// Pointer and length of a region; on wasm32, the only target where they leave the process, both are 32 bits.
fn packed(region: &[u8]) -> u64 {
    etl_abi::pack(
        region.as_ptr().expose_provenance() as u32,
        region.len() as u32,
    )
}

/// Sends the message of a panic to the host's log before the trap.
fn log_panics() {
    #[cfg(all(target_arch = "wasm32", feature = "panic-messages"))]
    std::panic::set_hook(Box::new(|panic| crate::error!("{panic}")));
}
