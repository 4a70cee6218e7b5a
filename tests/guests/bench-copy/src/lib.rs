//! A module that sets the value to a copy of itself, for the benchmarks: it does as little as a module can that reads and writes every byte,
//! so what is left to measure is the way there and back.

use etl_sdk::prelude::*;

#[transform]
fn copy(record: &Record<'_>, out: &mut Output) -> Result<()> {
    out.set_value(record.value());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::copy;
    use etl_sdk::testing::{TestRecord, run};

    #[test]
    fn the_value_comes_back() {
        for value in [&b""[..], b"\x00\xff", &[7; 256]] {
            assert_eq!(
                run(copy, TestRecord::new("any").value(value), ()).value(),
                value
            );
        }
    }
}
