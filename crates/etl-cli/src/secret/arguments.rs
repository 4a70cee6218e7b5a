//! What can be typed after `etl secret`, and what every command that loads a configuration takes of secrets.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args, Command, Subcommand};
use etl_config::KeySource;

use crate::arguments::AdminFolder;

/// Where secrets are, and where their key comes from
#[derive(Debug, Clone, Default, Args)]
pub struct SecretOptions {
    /// The file of secrets that `${secret:NAME}` names [default: `file` under `[secrets]` of the
    /// configuration, or etl.secrets beside it]
    #[arg(long, value_name = "FILE", env = "ETL_SECRETS", hide_env_values = true)]
    pub secrets: Option<PathBuf>,

    /// Where its key comes from: file:PATH, env:NAME or command:COMMAND [default: `key` under `[secrets]`
    /// of the configuration, or the variable ETL_SECRET_KEY]
    #[arg(long, value_name = "SOURCE", value_parser = KeySourceParser)]
    pub secret_key: Option<KeySource>,
}

/// Reads where a key comes from. What it cannot read it does not repeat: it may be the key itself.
#[derive(Clone, Copy, Debug)]
pub struct KeySourceParser;

impl TypedValueParser for KeySourceParser {
    type Value = KeySource;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<KeySource, clap::Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value);
        let source = text.ok().and_then(|text| text.parse().ok());
        source.ok_or_else(|| {
            let argument = argument.map_or_else(String::new, ToString::to_string);
            let message = format!(
                "the value of {argument} says of no key where it comes from: write file:PATH, env:NAME or command:COMMAND\n"
            );
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

const SECRET_HELP: &str = "\
A configuration gives a module a secret by its name:
  instance_config = { custom_config = { password = \"${secret:DB_PASSWORD}\" } }

Examples:
  etl secret key generate /etc/etl/secret.key
      Once. Keep a copy somewhere else: what it encrypts cannot be read without it.
  etl secret set DB_PASSWORD --secret-key file:/etc/etl/secret.key
  etl run etl.toml --secret-key file:/etc/etl/secret.key --from … --to …

Exit codes:
  0 done   1 it failed, and nothing was changed   2 wrong arguments   78 wrong configuration   130 Ctrl-C";

/// Keep the secrets that configurations name by ${secret:NAME}, encrypted
#[derive(Debug, Args)]
#[command(after_help = SECRET_HELP, subcommand_required = true, arg_required_else_help = true)]
pub struct SecretArguments {
    #[command(subcommand)]
    pub command: SecretCommand,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret, from standard input or a prompt that does not show it
    #[command(after_help = SET_HELP)]
    Set(SetOptions),
    /// List names and dates; no value is ever shown
    List(ListOptions),
    /// Take a secret away
    Remove(RemoveOptions),
    /// Encrypt everything anew, with another key
    #[command(after_help = ROTATE_HELP)]
    Rotate(RotateOptions),
    /// Make keys
    #[command(subcommand)]
    Key(KeyCommand),
}

const SET_HELP: &str = "\
On a terminal the value is asked for and not shown; otherwise it is all of standard input, without
the line feed at its end. It is never taken from the command line, which every process may read. A
run takes a new value when its configuration is loaded the next time (SIGHUP, or the API's reload).

Examples:
  etl secret set DB_PASSWORD
  pass show db | etl secret set DB_PASSWORD
  etl secret set TLS_KEY < client.key";

const ROTATE_HELP: &str = "\
The secrets are encrypted anew, and the modules that were stored through the API. Each file is whole
under one key or the other, whatever dies when; what was interrupted is finished by the same command
again. Start what runs with the new key afterwards, and keep the old one as long as there are copies
(backups) that need it.

Examples:
  etl secret key generate new.key
  etl secret rotate --secret-key file:old.key --new-key file:new.key";

const GENERATE_HELP: &str = "\
With FILE the key goes there, readable by its owner alone, and its id is printed; a file that exists
is not written over. Without FILE the key is printed, for another place to keep it.

Examples:
  etl secret key generate /etc/etl/secret.key
  etl secret key generate | pass insert --echo etl-key
      Then --secret-key 'command:pass show etl-key'.";

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key of 32 random bytes
    #[command(after_help = GENERATE_HELP)]
    Generate(GenerateOptions),
}

#[derive(Debug, Args)]
pub struct GenerateOptions {
    /// Where it goes [default: standard output]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PlaceOptions {
    #[command(flatten)]
    pub secrets: SecretOptions,

    /// The configuration whose `[secrets]` are meant [default: etl.toml, where there is one]
    #[arg(long, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SetOptions {
    /// Its name: letters, digits, `_`, `-` and `.`
    pub name: String,

    #[command(flatten)]
    pub place: PlaceOptions,

    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    pub place: PlaceOptions,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RemoveOptions {
    /// Its name
    pub name: String,

    #[command(flatten)]
    pub place: PlaceOptions,

    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RotateOptions {
    /// Where the new key comes from: file:PATH, env:NAME or command:COMMAND
    #[arg(long, value_name = "SOURCE", value_parser = KeySourceParser)]
    pub new_key: KeySource,

    /// A folder of modules; may be given more than once [default: modules_dir of the configuration, or
    /// modules/]
    #[arg(long, value_name = "DIR")]
    pub modules: Vec<PathBuf>,

    #[command(flatten)]
    pub admin: AdminFolder,

    #[command(flatten)]
    pub place: PlaceOptions,

    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}
