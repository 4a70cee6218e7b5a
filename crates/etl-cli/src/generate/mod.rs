//! `etl generate`: files for the programs that watch this one, from the lists of metrics and alerts that the engine itself uses.

mod dashboard;
mod rules;

use crate::arguments::GenerateCommand;
use crate::exit::Exit;
use crate::output;

/// Runs the command.
pub fn generate(what: &GenerateCommand) -> Result<(), Exit> {
    match what {
        GenerateCommand::PrometheusRules => output::print(&rules::rules()),
        GenerateCommand::GrafanaDashboard => output::print_json(&dashboard::dashboard()),
    }
}
