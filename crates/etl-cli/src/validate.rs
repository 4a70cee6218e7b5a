//! `etl validate`: builds everything as a run would, and reports everything that is wrong.

use etl_config::Report;
use etl_orchestrator::Orchestrator;

use crate::arguments::ValidateOptions;
use crate::configuration;
use crate::exit::Exit;
use crate::output::{self, colour, counted, tell_text};

/// Runs the command.
pub fn validate(options: &ValidateOptions) -> Result<(), Exit> {
    let result = check(options);
    let report = match &result {
        Ok((report, _)) | Err(report) => report,
    };
    if options.json {
        output::print_json(&report.to_json())?;
    } else if !report.is_empty() {
        tell_text(&report.render(colour()));
    }
    match &result {
        Err(_) => Err(Exit::configuration()),
        Ok((_, found)) if !options.json => output::print(&format!("{found}\n")),
        Ok(_) => Ok(()),
    }
}

/// The warnings, and a line that says what there is; or everything that is wrong.
fn check(options: &ValidateOptions) -> Result<(Report, String), Report> {
    let loaded = configuration::load(&options.configuration)?;
    let warnings = Orchestrator::check(&loaded)?;
    let config = &loaded.config;
    let modules = config.modules.len();
    let found = format!(
        "{}: {}, {}",
        options.configuration.config.display(),
        counted(config.pipelines.len() as u64, "pipeline"),
        counted(modules as u64, "module"),
    );
    Ok((Report::new(warnings), found))
}
