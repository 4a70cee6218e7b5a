//! `etl top` in front of somebody: figures on the screen, keys, another size of the window, a server that goes, and a terminal that is as it
//! was afterwards.

use crate::serving::Run;
use crate::terminal::Terminal;
use crate::top::{desk, feed};

fn start(desk: &crate::support::Desk, api: &str) -> Terminal {
    let url = format!("http://{api}");
    let arguments = [
        "top",
        "--url",
        &url,
        "--interval",
        "100ms",
        "--token-file",
        "top.token",
    ];
    let mut command = desk.command(&arguments);
    Terminal::start(command.env("TERM", "xterm-256color"))
}

#[test]
fn shows_what_runs_and_leaves_the_terminal_as_it_was() {
    let (desk, token) = desk();
    let mut run = Run::start(&desk, &["--to", "file:out.ndjson"]);
    feed(&mut run, &token, 40);
    let mut terminal = start(&desk, &run.api);
    terminal.shows(&["generation 1", "orders", "keep", "40", "q end"]);
    terminal.until(|screen| screen.alternate_screen() && screen.hide_cursor());
    assert!(!terminal.echoes());
    // More records, and the figures move.
    crate::top::feed_more(&mut run, &token, 40, 2);
    terminal.shows(&["42"]);
    terminal.press("s");
    terminal.until(|screen| !screen.contents().contains("s sort (name"));
    terminal.press("p");
    terminal.shows(&["paused"]);
    terminal.press("p");
    terminal.until(|screen| !screen.contents().contains("paused"));
    terminal.press("/nothing\r");
    terminal.until(|screen| !screen.contents().contains("orders"));
    terminal.press("/");
    for _ in 0.."nothing".len() {
        terminal.press("\u{7f}");
    }
    terminal.press("\r");
    terminal.shows(&["orders"]);
    // Another size: it is drawn anew, within the new bounds, and nothing of what was there before stays.
    for (columns, lines) in [(120, 40), (60, 12), (20, 4), (100, 30)] {
        terminal.resize(columns, lines);
    }
    terminal.until(|screen| {
        let text = screen.contents();
        text.contains("orders") && text.lines().any(|line| line.chars().count() > 80)
    });
    // The server goes: that is shown, and so are the last figures.
    drop(run);
    terminal.shows(&["no answer, trying again", "orders"]);
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
    terminal.is_restored();
}

#[test]
fn the_terminal_is_put_back_however_it_ends() {
    let (desk, _) = desk();
    let run = Run::start(&desk, &["--to", "file:out.ndjson"]);
    let mut terminal = start(&desk, &run.api);
    terminal.shows(&["orders"]);
    terminal.terminate();
    assert_eq!(terminal.ended(), 0);
    terminal.is_restored();
    let mut terminal = start(&desk, &run.api);
    terminal.shows(&["orders"]);
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    terminal.is_restored();
    // A token that is taken back while it is used ends it, with the reason where it can be read.
    let mut terminal = start(&desk, &run.api);
    terminal.shows(&["orders"]);
    desk.etl(&["admin", "token", "revoke", "top"]).ends_with(0);
    assert_eq!(terminal.ended(), 1);
    terminal.is_restored();
    assert!(terminal.text().contains("revoked"), "{}", terminal.text());
}
