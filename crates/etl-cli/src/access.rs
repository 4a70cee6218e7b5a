//! `etl admin`: who may use the API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etl_admin::{AccessError, Entry, NewEntry, Scope, Store, certificate_digest};

use crate::arguments::{AdminCommand, CertificateCommand, GrantOptions, TokenCommand};
use crate::exit::Exit;
use crate::output;
use crate::output::tell;

/// Runs the command.
pub fn run(command: &AdminCommand) -> Result<(), Exit> {
    match command {
        AdminCommand::Token(TokenCommand::Create(options)) => {
            let store = Store::in_folder(&options.folder.admin_dir);
            let new = new_entry(&options.grant)?;
            let token = store.create_token(new).map_err(|error| failed(&error))?;
            output::print(&format!("{}\n", token.reveal()))
        }
        AdminCommand::Token(TokenCommand::List(options)) => {
            let store = Store::in_folder(&options.folder.admin_dir);
            let entries = store.entries().map_err(|error| failed(&error))?;
            if options.json {
                return output::print_json(&entries.iter().map(Entry::to_json).collect());
            }
            output::print(&table(&entries))
        }
        AdminCommand::Token(TokenCommand::Revoke(options)) => {
            let store = Store::in_folder(&options.folder.admin_dir);
            let revoked = store
                .revoke(&options.which)
                .map_err(|error| failed(&error))?;
            for id in &revoked {
                tell!("etl: {id} is revoked");
            }
            if revoked.is_empty() {
                tell!("etl: {} was revoked before", options.which);
            }
            Ok(())
        }
        AdminCommand::Certificate(CertificateCommand::Allow(options)) => {
            let digest = certificate_digest(&options.file)
                .map_err(|error| Exit::failed(format_args!("{error}")))?;
            let store = Store::in_folder(&options.folder.admin_dir);
            let new = new_entry(&options.grant)?;
            let id = store
                .allow_certificate(digest, new)
                .map_err(|error| failed(&error))?;
            output::print(&format!("{id}\n"))
        }
    }
}

fn failed(error: &AccessError) -> Exit {
    Exit::failed(format_args!("{error}"))
}

fn new_entry(grant: &GrantOptions) -> Result<NewEntry, Exit> {
    Ok(NewEntry {
        name: grant.name.clone(),
        role: grant.role,
        scope: Scope::new(grant.pipelines.clone()),
        expires: grant.expires.as_deref().map(moment).transpose()?,
    })
}

/// A time from now, or a moment that is to come, in Unix seconds.
fn moment(text: &str) -> Result<u64, Exit> {
    let now = SystemTime::now();
    let moment = match humantime::parse_duration(text) {
        Ok(duration) => now.checked_add(duration),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    };
    let moment = moment.ok_or_else(|| {
        Exit::failed(format_args!(
            "--expires {text}: write a time from now, as in 90d or 12h, or a moment, as in 2027-01-31T00:00:00Z"
        ))
    })?;
    match moment.duration_since(UNIX_EPOCH) {
        Ok(since) if moment > now => Ok(since.as_secs()),
        _ => Err(Exit::failed(format_args!(
            "--expires {text}: that is over already, and would let nobody in"
        ))),
    }
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nobody may use the API\n".to_owned();
    }
    let mut text = String::new();
    for entry in entries {
        let patterns = entry.scope.patterns();
        let pipelines = if patterns.is_empty() {
            "all pipelines".to_owned()
        } else {
            patterns.join(", ")
        };
        let until = match (entry.state(), entry.expires) {
            ("valid", Some(expires)) => format!("until {}", written(expires)),
            ("valid", None) => "for ever".to_owned(),
            (state, _) => state.to_owned(),
        };
        text.push_str(&format!(
            "{}  {:<11}  {:<8}  {:<24}  {pipelines}; {until}\n",
            entry.id,
            entry.kind(),
            entry.role.name(),
            entry.name,
        ));
    }
    text
}

/// Seconds since 1970 as a moment.
fn written(seconds: u64) -> String {
    // What cannot be written as a moment is so far away that it is never.
    const LAST: u64 = 253_402_300_799;
    let moment = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(moment).to_string()
}
