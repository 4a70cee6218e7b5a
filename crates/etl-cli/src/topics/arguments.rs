//! What can be typed after `topics`, `send` and `tail`.

use std::time::Duration;

use clap::Args;
use etl_broker_adapter::AdapterUrl;

const TOPICS_HELP: &str = "\
Examples:
  etl topics embedded:data
  etl topics embedded:data --create orders --partitions 4 --keep-age 7d --keep-bytes 10GiB
      Makes the topic (and the folder), or changes what the topic keeps.
  etl topics embedded:data --json | jq -r .name";

/// List the topics of a place, or make one
#[derive(Debug, Args)]
#[command(after_help = TOPICS_HELP)]
pub struct TopicsOptions {
    /// The place: embedded:DIR, or the URL of a server
    pub url: AdapterUrl,

    /// Make this topic, or change what it keeps; makes a folder that does not exist
    #[arg(long, value_name = "TOPIC")]
    pub create: Option<String>,

    /// Its partitions
    #[arg(long, value_name = "N", default_value_t = 1, requires = "create", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub partitions: u32,

    /// It keeps records for so long: 90s, 30m, 12h, 7d [default: for ever]
    #[arg(long, value_name = "TIME", requires = "create", value_parser = time)]
    pub keep_age: Option<Duration>,

    /// Each partition keeps about so many bytes: 500MB, 10GiB [default: all]
    #[arg(long, value_name = "BYTES", requires = "create", value_parser = bytes)]
    pub keep_bytes: Option<u64>,

    /// Each partition keeps about so many records [default: all]
    #[arg(long, value_name = "N", requires = "create", value_parser = clap::value_parser!(u64).range(1..))]
    pub keep_records: Option<u64>,

    /// Print one JSON object a topic
    #[arg(long)]
    pub json: bool,
}

const SEND_HELP: &str = "\
Records are record lines, as `etl run --help` describes them. A line that is none is reported with
its number, the others are sent, and the exit code is 1. Empty lines are left out. Where the
place fails, it is said up to which line everything is there.

Examples:
  etl send --to embedded:data --create < records.ndjson
  tail -F app.log | etl send --to embedded:data --topic logs --raw
      Each line is the value of a record.
  etl tail embedded:old orders | etl send --to embedded:new --create";

/// Send records to topics
#[derive(Debug, Args)]
#[command(after_help = SEND_HELP)]
pub struct SendOptions {
    /// Where records go
    #[arg(long, value_name = "URL")]
    pub to: AdapterUrl,

    /// Where record lines come from: file:PATH or -
    #[arg(long, value_name = "URL", default_value = "-")]
    pub from: AdapterUrl,

    /// The topic of every record [default: its own]
    #[arg(long, value_name = "TOPIC", required_if_eq("raw", "true"))]
    pub topic: Option<String>,

    /// Take each line, as it stands, for the value of a record
    #[arg(long)]
    pub raw: bool,

    /// Make the place where it does not exist
    #[arg(long)]
    pub create: bool,

    /// Print what was done as one JSON object on standard error
    #[arg(long)]
    pub json: bool,
}

const TAIL_HELP: &str = "\
Records are printed as record lines, each with its offset. Nobody's position moves.

With --follow a folder of topics is opened only for moments, so that others can write to it
meanwhile.

Examples:
  etl tail embedded:data
  etl tail embedded:data orders 'iot.*' --from -10
      The last ten of each partition.
  etl tail embedded:data '*.dlq' --follow | jq .headers";

/// Print the records of topics
#[derive(Debug, Args)]
#[command(after_help = TAIL_HELP)]
pub struct TailOptions {
    /// The place: embedded:DIR, file:PATH, or the URL of a server
    pub url: AdapterUrl,

    /// Topics, in which * stands for anything [default: every one]
    pub topics: Vec<String>,

    /// Where to begin: beginning, end, an offset, or -N for the last N of each partition
    #[arg(long, value_name = "WHERE", default_value = "beginning", allow_hyphen_values = true, value_parser = from)]
    pub from: etl_broker_adapter::From,

    /// Go on with what comes, until Ctrl-C
    #[arg(long)]
    pub follow: bool,

    /// Stop after so many records
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

fn from(text: &str) -> Result<etl_broker_adapter::From, String> {
    use etl_broker_adapter::From;
    let number = |text: &str| text.parse::<u64>().ok();
    match text {
        "beginning" => Ok(From::Beginning),
        "end" => Ok(From::End),
        _ => match text.strip_prefix('-') {
            Some(last) => number(last).map(From::Last),
            None => number(text).map(From::Offset),
        }
        .ok_or_else(|| {
            "write `beginning`, `end`, an offset as in 17, or -10 for the last ten".to_owned()
        }),
    }
}

/// `90s`, `30m`, `12h`, `7d`.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write 90s, 30m, 12h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = count.checked_mul(seconds).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// `1000`, `500MB`, `10GiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number of bytes: write 1000, 500MB or 10GiB");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit: u64 = match &text[end..] {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..end].parse().map_err(|_| wrong())?;
    let bytes = count.checked_mul(unit).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(wrong)
}
