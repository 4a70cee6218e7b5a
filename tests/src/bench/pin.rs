//! Keeping the measuring thread on one processor, so that no round pays for a move to the other's caches.
//!
//! A thread's processors are set by a system call, which safe code reaches only through features of a crate that the compiler of modules shares;
//! turning them on would build it once more. Linux comes with a program for it, `taskset`. Where that is missing, or the process has one processor
//! anyway, nothing is pinned and the report says so. Threads inherit what their maker has, so only measuring is done pinned, never starting.

use std::process::Command;

/// A thread that stays on one processor until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    thread: String,
    before: String,
    processor: String,
}

impl Pinned {
    /// Pins this thread to the last processor that it may use: the first has most of the interrupts.
    ///
    /// # Errors
    /// Why it is not pinned, as half a sentence.
    pub fn here() -> Result<Self, String> {
        let link = std::fs::read_link("/proc/thread-self")
            .map_err(|_| "the system does not tell threads apart")?;
        let thread = link
            .file_name()
            .ok_or("the system does not name this thread")?
            .to_string_lossy()
            .into_owned();
        let status = std::fs::read_to_string("/proc/thread-self/status")
            .map_err(|error| error.to_string())?;
        let before = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .ok_or("the system does not tell which processors there are")?
            .trim()
            .to_owned();
        let processor = last(&before)
            .ok_or("there is one processor only")?
            .to_owned();
        set(&thread, &processor)?;
        Ok(Self {
            thread,
            before,
            processor,
        })
    }

    /// Which one it is on.
    pub fn processor(&self) -> &str {
        &self.processor
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What was possible once is possible again; where it is not, the thread only stays where it is.
        drop(set(&self.thread, &self.before));
    }
}

/// The last of a list such as `0-3,8`, unless it is the only one.
fn last(list: &str) -> Option<&str> {
    let (before, last) = list.rsplit_once([',', '-'])?;
    (!before.is_empty()).then_some(last)
}

fn set(thread: &str, processors: &str) -> Result<(), String> {
    let done = Command::new("taskset")
        .args(["--cpu-list", "--pid", processors, thread])
        .output()
        .map_err(|_| "there is no program `taskset` (util-linux)")?;
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_processors_is_taken() {
        assert_eq!(last("0-1"), Some("1"));
        assert_eq!(last("0,2-5,7"), Some("7"));
        assert_eq!(last("3"), None);
        assert_eq!(last(""), None);
    }

    #[test]
    fn a_thread_is_pinned_and_let_go_again() {
        let allowed = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
            let line = status
                .lines()
                .find(|line| line.starts_with("Cpus_allowed_list"));
            line.map(|line| {
                line.split_whitespace()
                    .last()
                    .unwrap_or_default()
                    .to_owned()
            })
        };
        let before = allowed();
        match Pinned::here() {
            Ok(pinned) => {
                assert_eq!(allowed().as_deref(), Some(pinned.processor()));
                drop(pinned);
                assert_eq!(allowed(), before);
            }
            Err(reason) => println!("skipped: pinning a thread: {reason}"),
        }
    }
}
