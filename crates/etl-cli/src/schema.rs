//! `etl schema`.

use crate::exit::Exit;
use crate::output;

/// Prints the JSON Schema of the configuration.
pub fn print() -> Result<(), Exit> {
    output::print_json(&etl_config::schema())
}
