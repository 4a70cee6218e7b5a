//! A terminal of a test's own: a program runs in it as it would in front of somebody, and what is on the screen is read.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ptyprocess::{PtyProcess, Signal, WaitStatus};

/// A program takes its time where many others run.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in a terminal. It ends with this.
pub struct Terminal {
    process: PtyProcess,
    keys: File,
    /// What was drawn, as a terminal understands it.
    screen: Arc<Mutex<vt100::Parser>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts a program in a terminal of 24 lines of 80 characters.
    pub fn start(wanted: &Command) -> Self {
        let mut command = Command::new("/bin/sh");
        // What is typed is shown, as in front of a shell, until the program wants it otherwise.
        command
            .args(["-c", r#"stty echo; exec "$0" "$@""#])
            .arg(wanted.get_program())
            .args(wanted.get_args())
            .env_clear();
        if let Some(folder) = wanted.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in wanted.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let mut process = PtyProcess::spawn(command).expect("it starts");
        process.set_window_size(80, 24).expect("a size");
        let keys = process.get_raw_handle().expect("a handle");
        let mut drawn = process.get_raw_handle().expect("a handle");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(24), size(80), 0)));
        let shown = screen.clone();
        let reading = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal of a program that has ended cannot be read.
            while let Ok(count @ 1..) = drawn.read(&mut bytes) {
                lock(&shown).process(&bytes[..count]);
            }
        });
        Self {
            process,
            keys,
            screen,
            reading: Some(reading),
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it listens");
    }

    pub fn resize(&mut self, columns: u16, lines: u16) {
        lock(&self.screen)
            .screen_mut()
            .set_size(size(lines), size(columns));
        let resized = self.process.set_window_size(columns, lines);
        resized.expect("a size");
    }

    pub fn terminate(&mut self) {
        self.process.kill(Signal::SIGTERM).expect("it is there");
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Waits until something is true of the screen.
    #[track_caller]
    pub fn until(&self, is_so: impl Fn(&vt100::Screen) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(lock(&self.screen).screen()) {
            assert!(Instant::now() < end, "never:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the screen shows all of these.
    #[track_caller]
    pub fn shows(&self, parts: &[&str]) {
        self.until(|screen| {
            let text = screen.contents();
            parts.iter().all(|part| text.contains(part))
        });
    }

    /// Whether what is typed is shown by the terminal itself, as it is where no program has taken it over.
    pub fn echoes(&self) -> bool {
        self.process.get_echo().expect("a terminal")
    }

    /// Waits for the end; the exit code. Everything that was drawn is on the screen then.
    pub fn ended(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        let code = loop {
            match self.process.status().expect("it was started") {
                WaitStatus::Exited(_, code) => break code,
                WaitStatus::StillAlive => {
                    assert!(Instant::now() < end, "it does not end:\n{}", self.text());
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => panic!("{other:?}\n{}", self.text()),
            }
        };
        if let Some(reading) = self.reading.take() {
            reading.join().expect("it reads to the end");
        }
        code
    }

    /// That the program has left the terminal as it found it.
    #[track_caller]
    pub fn is_restored(&self) {
        assert!(self.echoes(), "what is typed is not seen any more");
        let parser = lock(&self.screen);
        let screen = parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
    }
}

fn size(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a window has some lines and columns")
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
