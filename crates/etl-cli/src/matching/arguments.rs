//! What can be typed after `match`.

use std::path::PathBuf;

use clap::Args;

const MATCH_HELP: &str = "\
The rules file is TOML or JSON:
  [[rules]]
  id = \"errors\"
  filters = [
    { filter_type = \"Suffix\", pattern = \".error\" },
    { filter_type = \"Regex\", pattern = \"^(web|mobile)\\\\.fatal\", case_sensitive = false },
  ]
  filter_logic = \"any\"        # or \"all\"

  [[rules]]
  id = \"sensors-but-not-tests\"
  filter = { all = [
    { filter_type = \"Mqtt\", pattern = \"sensors/+/temperature\" },
    { not = { filter_type = \"Contains\", pattern = \"test\" } },
  ] }

Filter types: Exact, Prefix, Suffix, Contains, Wildcard, Regex, Mqtt, Nats.
One line comes out for each topic, with the rules that match it in the order of the file:
  {\"topic\":\"web.error\",\"rules\":[\"errors\"]}
A topic that is not UTF-8 comes out as \"topic_base64\".

Exit codes:
  0 done   1 something could not be read   2 wrong arguments   78 wrong rules

Examples:
  etl match --rules rules.toml --topics topics.txt
  cut -f1 access.tsv | etl match --rules rules.toml
  echo web.fatal.disk | etl match --rules rules.toml --explain";

/// Match topics against rules
#[derive(Debug, Args)]
#[command(after_help = MATCH_HELP)]
pub struct MatchOptions {
    /// The rules: a TOML or JSON file
    #[arg(long, value_name = "FILE")]
    pub rules: PathBuf,

    /// The topics, one a line: a file, or - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub topics: PathBuf,

    /// Say for every rule what matched, or the first reason that it did not
    #[arg(long)]
    pub explain: bool,

    /// Print on standard error, at the end, what the rules cost
    #[arg(long)]
    pub stats: bool,

    /// Print problems and figures as JSON, and explanations in the JSON of each line
    #[arg(long)]
    pub json: bool,
}
