//! What a run reads, as its sinks see it: a record that is written there would come in again, for ever.
//!
//! Where everything that can be written would, or dead letters would by their very name, the run does not begin. Where a record does because of the topic that it has, that record is
//! refused: other records of the same run may go elsewhere in the same stream.

use etl_config::TopicTemplate;

use super::connection::Connection;
use super::subjects;
use super::url::{NatsUrl, invalid};
use crate::AdapterError;

/// The subjects of a stream that a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(super) stream: String,
    /// When it was made: streams of the same name on two servers are told apart by it.
    pub(super) created: i128,
    /// What the consumer is given.
    pub(super) patterns: Vec<String>,
    /// Stands before every topic.
    pub(super) prefix: Option<String>,
}

/// What is written somewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carries<'a> {
    pub(crate) outputs: bool,
    /// Dead letters, on these topics.
    pub(crate) letters: Option<&'a TopicTemplate>,
}

impl Reading {
    /// Whether the stream is on the server of this connection.
    pub(super) async fn is_at(&self, connection: &Connection) -> bool {
        let found = connection.jetstream.get_stream(&self.stream).await;
        found
            .is_ok_and(|stream| stream.cached_info().created.unix_timestamp_nanos() == self.created)
    }

    pub(super) fn holds(&self, subject: &str) -> bool {
        let mut patterns = self.patterns.iter();
        patterns.any(|pattern| subjects::matches(pattern, subject))
    }

    /// Refuses a sink from which everything would come back. `held` are the subjects that its stream holds, if it has one.
    pub(super) fn check(
        &self,
        to: &NatsUrl,
        held: Option<&[String]>,
        carries: Carries<'_>,
    ) -> Result<(), AdapterError> {
        let all = [">".to_owned()];
        let held = held.unwrap_or(&all);
        let written = match &to.prefix {
            Some(prefix) => vec![format!("{prefix}>")],
            None => held.to_vec(),
        };
        let comes_back = |written: &String| {
            let mut patterns = self.patterns.iter();
            patterns.any(|pattern| subjects::covers(pattern, written))
        };
        if carries.outputs && written.iter().all(comes_back) {
            return Err(invalid(format!(
                "{to}: this run reads `{}` of the stream `{}`, so all that is written there would come in again, for ever: put it elsewhere with ?prefix=, name another stream, or read less with ?subject=",
                self.patterns.join("`, `"),
                self.stream
            )));
        }
        let Some(template) = carries.letters else {
            return Ok(());
        };
        for pattern in &self.patterns {
            let subject = subjects::one_of(pattern);
            let prefix = self.prefix.as_deref().unwrap_or_default();
            let topic = subject.strip_prefix(prefix).unwrap_or(&subject);
            let letter = to.subject_of(&template.render(topic));
            let is_held = held.iter().any(|held| subjects::matches(held, &letter));
            if is_held && self.holds(&letter) {
                return Err(invalid(format!(
                    "{to}: the dead letter of a record on `{subject}` would go to `{letter}`, which this run reads: put dead letters elsewhere with --dead-letters, ?prefix= or `dead_letter_topic`, or read less with ?subject="
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(patterns: &[&str], prefix: Option<&str>) -> Reading {
        Reading {
            stream: "IN".to_owned(),
            created: 0,
            patterns: patterns.iter().map(|own| (*own).to_owned()).collect(),
            prefix: prefix.map(str::to_owned),
        }
    }

    fn check(reading: &Reading, to: &str, held: Option<&[&str]>) -> Result<(), String> {
        let to = NatsUrl::parse(&format!("nats://h/{to}")).expect("a URL");
        let held: Option<Vec<String>> =
            held.map(|held| held.iter().map(|own| (*own).to_owned()).collect());
        let carries = Carries {
            outputs: true,
            letters: Some(&TopicTemplate::default()),
        };
        let checked = reading.check(&to, held.as_deref(), carries);
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn what_comes_back_whatever_it_is_called_is_refused() {
        let all = reading(&["orders.>"], None);
        let refused = check(&all, "IN", Some(&["orders.>"])).expect_err("goes round");
        assert!(refused.contains("come in again"), "{refused}");
        check(&all, "?prefix=orders.out", None).expect_err("goes round");
        check(&all, "OUT?prefix=out", Some(&["out.>"])).expect("goes elsewhere");
        // A module may put them on another subject of the same stream, with their dead letters.
        let some = reading(&["orders.raw"], None);
        check(&some, "IN", Some(&["orders.>"])).expect("may go elsewhere");
        check(&some, "", None).expect("may go elsewhere");
    }

    #[test]
    fn dead_letters_that_come_back_are_refused() {
        let some = reading(&["orders.new.>"], None);
        let refused = check(&some, "IN", Some(&["orders.>"])).expect_err("letters go round");
        assert!(refused.contains("`orders.new.x.dlq`"), "{refused}");
        check(&some, "OUT", Some(&["orders.clean.>"])).expect("nobody holds them");
        let prefixed = reading(&["in.>"], Some("in."));
        check(&prefixed, "?prefix=in", None).expect_err("goes round");
        check(&prefixed, "?prefix=out", None).expect("goes elsewhere");
    }
}
