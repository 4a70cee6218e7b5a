//! `etl match`: topics in, the rules that match them out.

mod arguments;
mod document;
mod places;
mod reading;
mod rules;
mod stats;

pub use arguments::MatchOptions;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

use etl_broker_adapter::line::{Line, LineReader};
use etl_filter::{Explanation, RuleSet, RuleSetBuilder};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::output::{counted, tell, tell_text};
use rules::{Problem, Rules};

/// A topic longer than this is no topic.
const MAX_TOPIC_BYTES: usize = 1024 * 1024;

/// Runs the command.
pub fn match_topics(options: &MatchOptions) -> Result<(), Exit> {
    let text = fs::read(&options.rules).map_err(|error| {
        Exit::failed(format_args!(
            "cannot read {}: {error}",
            options.rules.display()
        ))
    })?;
    let (rules, problems) = rules::read(&options.rules, text);
    let started = Instant::now();
    let set = compile(&rules, problems).map_err(|problems| refused(&problems, options.json))?;
    let built_in = started.elapsed();
    let topics = open(&options.topics).map_err(|error| {
        Exit::failed(format_args!(
            "cannot read {}: {error}",
            options.topics.display()
        ))
    })?;
    let mut matching = Matching {
        set: &set,
        ids: &rules.ids,
        quoted: rules.ids.iter().map(|id| json!(id).to_string()).collect(),
        explain: options
            .explain
            .then_some(if options.json { Form::Json } else { Form::Text }),
        out: BufWriter::with_capacity(64 * 1024, io::stdout().lock()),
        topics: 0,
        skipped: 0,
    };
    matching.all(topics, &options.topics)?;
    let Matching {
        topics, skipped, ..
    } = matching;
    match (options.stats, options.json) {
        (false, _) => {}
        (true, false) => tell_text(&stats::as_text(&set.stats(), built_in, topics)),
        (true, true) => tell!("{}", stats::as_json(&set.stats(), built_in, topics)),
    }
    match skipped {
        0 => Ok(()),
        _ => Err(Exit::failed(format_args!(
            "{} could not be read",
            counted(skipped, "topic")
        ))),
    }
}

fn open(topics: &Path) -> io::Result<Box<dyn Read>> {
    if topics == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(topics)?))
}

/// The rules, compiled; or what was wrong with the file already, with all that is wrong with the patterns of the rules that could be read.
fn compile(rules: &Rules, mut problems: Vec<Problem>) -> Result<RuleSet, Vec<Problem>> {
    let mut builder: RuleSetBuilder = RuleSet::builder();
    for rule in &rules.rules {
        builder.add(rule.clone());
    }
    let first = if problems.is_empty() {
        match builder.build() {
            Ok(set) => return Ok(set),
            Err(error) => Some(error),
        }
    } else {
        None
    };
    // Building stops at the first that is wrong. What only the whole is over, checking does not find.
    let wrong = builder.check();
    problems.extend(wrong.iter().map(|error| rules.problem(error)));
    if problems.is_empty() {
        problems.extend(first.map(|error| rules.problem(&error)));
    }
    rules::in_file_order(&mut problems);
    Err(problems)
}

/// Prints the problems; the exit code of a configuration that cannot be used.
fn refused(problems: &[Problem], as_json: bool) -> Exit {
    if as_json {
        let list: Vec<Value> = problems.iter().map(Problem::json).collect();
        tell!("{}", json!({ "errors": list.len(), "problems": list }));
    } else {
        for problem in problems {
            tell!("{problem}");
        }
    }
    Exit::configuration()
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Text,
}

struct Matching<'a> {
    set: &'a RuleSet,
    ids: &'a [String],
    /// The ids as JSON strings.
    quoted: Vec<String>,
    explain: Option<Form>,
    out: BufWriter<io::StdoutLock<'static>>,
    /// Topics that were matched, and lines that were too long to be one.
    topics: u64,
    skipped: u64,
}

impl Matching<'_> {
    /// Every topic of the input.
    fn all(&mut self, input: Box<dyn Read>, name: &Path) -> Result<(), Exit> {
        let mut lines = LineReader::new(input, MAX_TOPIC_BYTES);
        let mut scratch = self.set.scratch();
        loop {
            while let Some(line) = lines.buffered() {
                match line {
                    Line::Whole { bytes, .. } => {
                        let matched = self.set.matches_bytes(&bytes, &mut scratch);
                        let rules = matched.iter().map(|rule| &*self.quoted[rule.index()]);
                        let rules = rules.collect::<Vec<_>>().join(",");
                        self.one(&bytes, &rules)?;
                        self.topics += 1;
                    }
                    Line::TooLong { number, length, .. } => {
                        tell!(
                            "{}:{number}: a topic of {length} bytes, over the limit of {MAX_TOPIC_BYTES}",
                            name.display()
                        );
                        self.skipped += 1;
                    }
                }
            }
            // What was asked is answered before more is waited for.
            self.out.flush()?;
            if lines.is_at_end() {
                return Ok(());
            }
            lines.fill().map_err(|error| {
                Exit::failed(format_args!("cannot read {}: {error}", name.display()))
            })?;
        }
    }

    fn one(&mut self, topic: &[u8], rules: &str) -> Result<(), Exit> {
        let text = std::str::from_utf8(topic);
        if let Some(Form::Text) = self.explain {
            match text {
                Ok(topic) => writeln!(self.out, "{}", topic.escape_debug())?,
                Err(_) => writeln!(self.out, "{} (not UTF-8)", topic.escape_ascii())?,
            }
            for explanation in self.set.explain_bytes(topic) {
                let id = &self.ids[explanation.rule().index()];
                let sign = if explanation.matched() { '+' } else { '-' };
                writeln!(
                    self.out,
                    "  {sign} {id}: {}",
                    reasons(&explanation).join("; ")
                )?;
            }
            return Ok(());
        }
        match text {
            Ok(topic) => write!(self.out, "{{\"topic\":{}", json!(topic))?,
            Err(_) => write!(self.out, "{{\"topic_base64\":\"{}\"", base64(topic))?,
        }
        write!(self.out, ",\"rules\":[{rules}]")?;
        if self.explain.is_some() {
            let list: Vec<Value> = self
                .set
                .explain_bytes(topic)
                .iter()
                .map(|explanation| {
                    json!({
                        "rule": self.ids[explanation.rule().index()],
                        "matched": explanation.matched(),
                        "because": reasons(explanation),
                    })
                })
                .collect();
            write!(self.out, ",\"explain\":{}", Value::from(list))?;
        }
        writeln!(self.out, "}}")?;
        Ok(())
    }
}

fn reasons(explanation: &Explanation) -> Vec<String> {
    explanation
        .because()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
