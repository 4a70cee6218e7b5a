//! Loading the configuration that a command names, and showing what is wrong with it.

use etl_config::{LoadOptions, Loaded, Problem, Report};

use crate::arguments::ConfigurationOptions;
use crate::exit::Exit;
use crate::output::{colour, tell, tell_text};
use crate::secret;

/// Reads it; patterns and modules are not looked at.
pub fn load(options: &ConfigurationOptions) -> Result<Loaded, Report> {
    etl_config::load(&options.config, &self::options(options))
}

/// How it is read.
pub fn options(options: &ConfigurationOptions) -> LoadOptions {
    let mut load = LoadOptions::default()
        .deny_warnings(options.deny_warnings)
        .secrets(secret::keeper(&options.secrets));
    if let Some(modules) = &options.modules {
        load = load.modules_dir(modules);
    }
    load
}

/// Prints what is wrong on standard error; the exit code that goes with it.
pub fn refuse(report: &Report, json: bool) -> Exit {
    if json {
        tell!("{}", report.to_json());
    } else {
        tell_text(&report.render(colour()));
    }
    Exit::configuration()
}

/// Prints warnings on standard error; nothing where there are none.
pub fn warn(warnings: &[Problem]) {
    if !warnings.is_empty() {
        tell_text(&Report::new(warnings.iter().cloned()).render(colour()));
    }
}
