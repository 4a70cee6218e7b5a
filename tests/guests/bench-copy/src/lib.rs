//! A module that sets the value to a copy of itself without its last byte, for the benchmarks: it does as little as a module can that reads and
//! writes the value, so what is left to measure is the way there and back. It gives up a byte because an equal value is no change to the engine.

use etl_sdk::prelude::*;

#[transform]
fn copy(record: &Record<'_>, out: &mut Output) -> Result<()> {
    let value = record.value();
    out.set_value(&value[..value.len().saturating_sub(1)]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::copy;
    use etl_sdk::testing::{TestRecord, run};

    #[test]
    fn the_value_comes_back_without_its_last_byte() {
        let cases = [(&b"ab"[..], &b"a"[..]), (b"\x00\xff", b"\x00"), (b"", b"")];
        for (value, copied) in cases {
            assert_eq!(
                run(copy, TestRecord::new("any").value(value), ()).value(),
                copied
            );
        }
    }
}
