//! The bar on a terminal: how far, how fast, what failed.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_broker_adapter::Counters;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::grouped;

/// How often the bar moves.
const EVERY: Duration = Duration::from_millis(100);

/// Draws the progress of a run on standard error until it is dropped or aborted; draws nothing where that is no terminal.
/// `total_bytes` is the length of the input, where it has one.
pub async fn show(counters: Arc<Counters>, total_bytes: Option<u64>) {
    if !io::stderr().is_terminal() {
        return;
    }
    let bar = Bar(bar(total_bytes));
    let started = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let counts = counters.read();
        let rate = counts.records_in as f64 / started.elapsed().as_secs_f64().max(0.001);
        bar.0.set_position(counts.bytes_read);
        bar.0.set_message(format!(
            "{} records, {}/s, {} dead-lettered",
            grouped(counts.records_in),
            grouped(rate as u64),
            grouped(counts.dead_lettered)
        ));
    }
}

/// Leaves the terminal clean however it ends.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn bar(total_bytes: Option<u64>) -> ProgressBar {
    let style = |template| {
        ProgressStyle::with_template(template)
            .expect("the template is a constant")
            .progress_chars("█▉▊▋▌▍▎▏ ")
    };
    match total_bytes {
        Some(total) => {
            ProgressBar::new(total).with_style(style("{bar:30} {percent:>3} %  {msg}, {eta} left"))
        }
        None => ProgressBar::new_spinner().with_style(style("{spinner} {msg}")),
    }
}
