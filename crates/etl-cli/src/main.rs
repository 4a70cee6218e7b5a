//! The `etl` program: arguments in, exit code out.
//!
//! Each command has a file. What a command finds goes to standard output, what it has to say about its work to
//! standard error, so that its output can be piped. A failure ends as an `Exit`, which knows its code.
#![forbid(unsafe_code)]
// They panic where nobody listens: `output` has what does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod access;
mod arguments;
mod audit;
mod configuration;
mod exit;
mod explain;
#[cfg(feature = "nats")]
mod fleet;
mod generate;
mod inspect;
mod letters;
mod logging;
mod matching;
mod output;
mod redrive;
mod replay;
mod run;
mod schema;
mod secret;
mod signing;
mod top;
mod topics;
mod validate;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, AuditCommand, Command, ModuleCommand};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logging::start(&arguments.log);
    let result = match &arguments.command {
        Command::Run(options) => run::run(options),
        Command::Validate(options) => validate::validate(options),
        Command::Explain(options) => explain::explain(options),
        Command::Schema => schema::print(),
        Command::Module(ModuleCommand::Inspect(options)) => inspect::inspect(options),
        Command::Module(ModuleCommand::Key(options)) => signing::key(options),
        Command::Module(ModuleCommand::Sign(options)) => signing::sign(options),
        Command::Module(ModuleCommand::Verify(options)) => signing::verify(options),
        Command::Generate(what) => generate::generate(what),
        Command::Admin(what) => access::run(what),
        Command::Secret(arguments) => secret::run(arguments),
        Command::Audit(AuditCommand::Verify(options)) => audit::verify(options),
        Command::Match(options) => matching::match_topics(options),
        Command::Top(options) => top::top(options),
        Command::Topics(options) => topics::list(options),
        Command::Send(options) => topics::send(options),
        Command::Tail(options) => topics::tail(options),
        Command::Redrive(options) => redrive::redrive(options),
        Command::Replay(options) => replay::replay(options),
        #[cfg(feature = "nats")]
        Command::Push(options) => fleet::push(options),
        #[cfg(feature = "nats")]
        Command::Fleet(options) => fleet::show(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}
