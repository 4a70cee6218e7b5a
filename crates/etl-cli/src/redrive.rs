//! `etl redrive`: dead letters go back to where they came from.

use std::time::Duration;

use clap::Args;
use etl_broker_adapter::AdapterUrl;
use etl_orchestrator::FailureKind;
use serde_json::json;

use crate::exit::Exit;
use crate::letters::{Done, PARKED, Selection, Ways, look, send_back};
use crate::output::{self, counted, grouped, tell};
use crate::topics::{block_on, connect, time};

const HELP: &str = "\
What was the matter is shown first, as a histogram. Then each dead letter becomes the record that
it was, on the topic that it came from, with the header etl-redrive-attempts; it is taken out of
its topic once it is safe there. A record that was sent back --attempts times already is parked
instead: its letter goes to TOPIC.parked, in the place of the letters, and back from there only
when that topic is asked for. A dead letter of what was no record has nowhere to go back to and
stays.

Exit codes:
  0 done   1 something was refused, or failed   2 wrong arguments

Examples:
  etl redrive --from embedded:data --topic orders.dlq --dry-run
      What is the matter with them?
  etl redrive --from embedded:data --topic orders.dlq --module enrich --kind Timeout --since 2h
      Only those that this module could not do in time, within the last two hours.";

/// Send dead letters back to where they came from
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RedriveOptions {
    /// Where the dead letters are
    #[arg(long, value_name = "URL")]
    pub from: AdapterUrl,

    /// Their topic; * stands for anything, but letters that are parked are met only by a name that ends with .parked
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,

    /// Where the records go [default: where the dead letters are]
    #[arg(long, value_name = "URL")]
    pub to: Option<AdapterUrl>,

    /// Only those that this module failed on
    #[arg(long, value_name = "MODULE")]
    pub module: Option<String>,

    /// Only those of this kind: Timeout, Trap, MemoryLimit, InvalidOutput, Module, PoolExhausted, CircuitOpen,
    /// Refused, TooManyDeliveries
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub kind: Option<String>,

    /// Only those that failed within this time: 90s, 30m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Duration>,

    /// Send a record back so many times at the most, then park it
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub attempts: u32,

    /// Only show what is the matter
    #[arg(long)]
    pub dry_run: bool,

    /// Print what was done as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// A kind of dead letters as it stands in them, however it is written. A wrong one would match none and look as if there were none.
fn kind(text: &str) -> Result<String, String> {
    let kinds = FailureKind::ALL.map(FailureKind::name);
    let mut kinds = kinds
        .iter()
        .chain(&["Refused", "TooManyDeliveries", "InvalidRecord"]);
    match kinds.find(|kind| kind.eq_ignore_ascii_case(text)) {
        Some(kind) => Ok((*kind).to_owned()),
        None => Err("there is no such kind; --help lists them".to_owned()),
    }
}

/// Runs the command.
pub fn redrive(options: &RedriveOptions) -> Result<(), Exit> {
    let selection = Selection {
        module: options.module.as_deref(),
        kind: options.kind.as_deref(),
        since: options.since,
        parked: options.topic.ends_with(PARKED),
        admits: &|_| true,
    };
    let done = block_on(async {
        let broker = connect(&options.from, false).await?;
        let mut done = look(&selection, &mut *broker.queue(&options.topic).await?).await?;
        if !options.dry_run && done.selected > 0 {
            let mut back = match &options.to {
                Some(to) => connect(to, false).await?.sink().await?,
                None => broker.sink().await?,
            };
            let ways = Ways {
                queue: &mut *broker.queue(&options.topic).await?,
                back: &mut *back,
                parking: &mut *broker.sink_beside().await?,
            };
            send_back(&selection, options.attempts, ways, &mut done, |reason| {
                tell!("etl: one was refused: {reason}");
            })
            .await?;
        }
        Ok(done)
    })?;
    say(options, &done)?;
    match done.refused {
        0 => Ok(()),
        refused => Err(Exit::failed(format_args!(
            "{} refused, and stay on {}",
            counted(refused, "record"),
            options.topic
        ))),
    }
}

fn say(options: &RedriveOptions, done: &Done) -> Result<(), Exit> {
    let reasons = done.by_frequency();
    if options.json {
        let reasons: Vec<_> = reasons
            .iter()
            .map(|((kind, module, message), count)| {
                json!({ "count": count, "kind": kind, "module": module, "message": message })
            })
            .collect();
        return output::print(&format!(
            "{}\n",
            json!({
                "topic": options.topic,
                "dry_run": options.dry_run,
                "selected": done.selected,
                "others": done.others,
                "redriven": done.redriven,
                "parked": done.parked,
                "refused": done.refused,
                "nowhere_to_go": done.nowhere,
                "reasons": reasons,
            })
        ));
    }
    let mut out = format!(
        "{} on {}",
        counted(done.selected, "dead letter"),
        options.topic
    );
    if done.others > 0 {
        out.push_str(&format!(
            ", and {} that you did not ask for",
            grouped(done.others)
        ));
    }
    if done.selected + done.others == 0 {
        // A slip in the name looks the same.
        out.push_str(&format!(
            "; `etl topics '{}'` says which there are",
            options.from
        ));
    }
    out.push('\n');
    for ((kind, module, message), count) in reasons {
        out.push_str(&format!("  {:>8}  {kind}", grouped(count)));
        if !module.is_empty() {
            out.push_str(&format!(" in {module}"));
        }
        out.push_str(&format!(": {message}\n"));
    }
    if options.dry_run {
        out.push_str("nothing was sent: this was a dry run\n");
    } else {
        out.push_str(&format!("{} sent back", grouped(done.redriven)));
        for (count, what) in [
            (done.parked, "parked"),
            (done.refused, "refused"),
            (done.nowhere, "stay, because they hold no whole record"),
        ] {
            if count > 0 {
                out.push_str(&format!(", {} {what}", grouped(count)));
            }
        }
        out.push('\n');
    }
    output::print(&out)
}
