//! `etl top`: the figures of a running engine, on a terminal, as a table or as JSON.
//!
//! A thread polls the API (`client`) and makes figures of two answers (`figures`); the screen (`screen`) is drawn by the other one, which
//! listens to keys. The terminal is put back however it ends: by a key, a signal, an error or a panic.

mod arguments;
mod client;
mod figures;
mod screen;
mod text;

pub use arguments::TopOptions;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;
use crate::output;
use crate::output::tell;
use client::{Client, Failed};
use figures::{Answer, Figures};
use screen::{Screen, Wish};

/// How long a key waits for its effect.
const TICK: Duration = Duration::from_millis(50);

/// What is polled each time.
const PATHS: [&str; 2] = ["/api/v1/statistics", "/api/v1/health"];

/// Runs the command.
pub fn top(options: &TopOptions) -> Result<(), Exit> {
    let client = Client::new(&options.api).map_err(Exit::failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format_args!("cannot start threads: {error}")))?;
    if options.json {
        return runtime.block_on(lines(&client, options));
    }
    if options.once {
        let figures = runtime.block_on(once(&client, options.interval))?;
        let table = text::table(&figures, &options.filter, options.sort);
        return output::print(&table);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Exit::failed(
            "this is no terminal: --once prints a table, --json prints JSON",
        ));
    }
    // What is wrong for good is told before the screen is taken.
    let first = runtime.block_on(poll(&client));
    if let Err(Failed::ForGood(message)) = &first {
        return Err(Exit::failed(message));
    }
    watch(runtime, client, options)
}

fn failed(failed: &Failed) -> Exit {
    Exit::failed(failed.message())
}

async fn poll(client: &Client) -> Result<Answer, Failed> {
    let answers = client.get(&PATHS).await?;
    let answer = match answers.as_slice() {
        [statistics, health] => Answer::read(statistics, health),
        _ => None,
    };
    answer.ok_or_else(|| {
        Failed::ForGood("the API answers in another way than this version of etl knows".to_owned())
    })
}

/// Figures out of two answers, an interval apart.
async fn once(client: &Client, interval: Duration) -> Result<Figures, Exit> {
    let before = poll(client).await.map_err(|error| failed(&error))?;
    tokio::time::sleep(interval).await;
    let after = poll(client).await.map_err(|error| failed(&error))?;
    Ok(Figures::of(after, Some(&before)))
}

/// Prints figures as JSON, one object a line, until Ctrl-C or once.
async fn lines(client: &Client, options: &TopOptions) -> Result<(), Exit> {
    let mut before = poll(client).await.map_err(|error| failed(&error))?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(options.interval) => {}
            _ = tokio::signal::ctrl_c() => return Err(Exit::interrupted()),
        }
        let after = match poll(client).await {
            Ok(after) => after,
            Err(Failed::Away(message)) if !options.once => {
                tell!("etl: no answer, trying again: {message}");
                continue;
            }
            Err(error) => return Err(failed(&error)),
        };
        let figures = Figures::of(after, Some(&before));
        output::print(&format!("{}\n", figures.to_json()))?;
        if options.once {
            return Ok(());
        }
        before = figures.answer;
    }
}

/// What the polling thread has to say.
enum News {
    Polled(Result<Box<Figures>, Failed>),
    /// Somebody asked the program to end.
    End,
}

/// Shows figures on the terminal until somebody wants no more.
fn watch(runtime: Runtime, client: Client, options: &TopOptions) -> Result<(), Exit> {
    let (sender, news) = sync_channel(4);
    let unusable = |error: io::Error| Exit::failed(format_args!("the terminal: {error}"));
    let ended = runtime
        .block_on(async { signal(SignalKind::terminate()) })
        .map_err(unusable)?;
    runtime.spawn(polling(client, options.interval, sender, ended));
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen::new(
        options.api.url.to_string(),
        options.sort,
        options.filter.clone(),
        colours,
    );
    // It installs a hook that puts the terminal back before a panic is told.
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let shown = show(&mut terminal, &mut screen, &news);
    ratatui::restore();
    runtime.shutdown_background();
    shown
        .map_err(unusable)?
        .map_or(Ok(()), |message| Err(Exit::failed(message)))
}

/// Draws and listens. Answers what it ended with, if it is to be told.
fn show(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    news: &Receiver<News>,
) -> io::Result<Option<String>> {
    let mut is_stale = true;
    loop {
        if is_stale {
            terminal.draw(|frame| screen.draw(frame))?;
            is_stale = false;
        }
        let until = Instant::now() + TICK;
        while event::poll(until.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) => {
                    is_stale = true;
                    if screen.press(key) == Wish::Quit {
                        return Ok(None);
                    }
                }
                Event::Resize(..) => is_stale = true,
                _ => {}
            }
        }
        match news.recv_timeout(Duration::ZERO) {
            Ok(News::Polled(Ok(figures))) => screen.take(Ok(*figures)),
            Ok(News::Polled(Err(Failed::Away(message)))) => screen.take(Err(message)),
            Ok(News::Polled(Err(Failed::ForGood(message)))) => return Ok(Some(message)),
            Ok(News::End) | Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => continue,
        }
        is_stale = true;
    }
}

async fn polling(
    client: Client,
    interval: Duration,
    news: SyncSender<News>,
    mut ended: tokio::signal::unix::Signal,
) {
    let mut before: Option<Answer> = None;
    loop {
        let polled = poll(&client).await.map(|answer| {
            let figures = Figures::of(answer.clone(), before.as_ref());
            before = Some(answer);
            Box::new(figures)
        });
        // A screen that does not keep up needs no more of them.
        if let Err(TrySendError::Disconnected(_)) = news.try_send(News::Polled(polled)) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = ended.recv() => {
                // Nobody listens any more: it has ended already.
                let _ = news.try_send(News::End);
                return;
            }
        }
    }
}
