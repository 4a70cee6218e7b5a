//! Starting other programs: cargo, git, rustup. An error says which command failed and how, so that it can be run by hand.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

/// The top of the repository: the folder above this package.
pub fn repository_root() -> PathBuf {
    // The manifest folder is baked in when xtask is compiled; a moved checkout is compiled again, because cargo keys on the path.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
        .to_path_buf()
}

/// The cargo that started this program, with the repository as its folder.
pub fn cargo(root: &Path) -> Command {
    let mut command =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root);
    // `cargo run` exports these for the package that it runs; a nested cargo would take them for the user's wishes.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            command.env_remove(name);
        }
    }
    command
}

/// The nightly compiler's cargo. The cargo that runs this program is of another toolchain and says so to its children.
pub fn nightly(folder: &Path) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo"])
        .current_dir(folder);
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    command
}

/// How the command would be typed.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_stem()
        .unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs the command with this terminal.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` failed ({status})", shown(command)))
    }
}

/// Runs the command and returns what it wrote to stdout; stderr goes to this terminal.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("`{}` failed ({})", shown(command), output.status));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("`{}` wrote something that is not UTF-8", shown(command)))
}

/// Runs a cargo command that compiles and returns its messages (`--message-format json`); errors and warnings go to this terminal as always.
pub fn cargo_messages(command: &mut Command) -> Result<Vec<Value>, String> {
    command.args(["--message-format", "json-render-diagnostics"]);
    let mut messages = Vec::new();
    let status = each_line(command, |line| {
        messages.extend(serde_json::from_slice::<Value>(line));
    })?;
    if status.success() {
        Ok(messages)
    } else {
        Err(format!("`{}` failed ({status})", shown(command)))
    }
}

/// Runs the command without stdin and hands over each line that it writes to stdout, as it comes.
pub fn each_line(command: &mut Command, mut read: impl FnMut(&[u8])) -> Result<ExitStatus, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", shown(command)))?;
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).split(b'\n') {
        read(
            &line
                .map_err(|error| format!("cannot read what `{}` says: {error}", shown(command)))?,
        );
    }
    child
        .wait()
        .map_err(|error| format!("cannot wait for `{}`: {error}", shown(command)))
}
