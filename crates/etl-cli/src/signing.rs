//! `etl module key`, `sign` and `verify`: who answers for a module.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use etl_orchestrator::signature::{self, SigningKey};

use crate::arguments::{KeyOptions, SignOptions, VerifyOptions};
use crate::exit::Exit;
use crate::output;

fn failed(path: &Path) -> impl Fn(io::Error) -> Exit {
    move |error| Exit::failed(format_args!("{}: {error}", path.display()))
}

/// Makes a key.
pub fn key(options: &KeyOptions) -> Result<(), Exit> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Exit::failed(format_args!("no randomness to be had: {error}")))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&options.file)
        .map_err(failed(&options.file))?;
    file.write_all(format!("{}\n", hexadecimal(&seed)).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed(&options.file))?;
    let public = SigningKey::from_bytes(&seed).verifying_key();
    output::print(&format!("{}\n", hexadecimal(public.as_bytes())))
}

/// Signs a module, which becomes one file or the other, never half of one.
pub fn sign(options: &SignOptions) -> Result<(), Exit> {
    let text = fs::read_to_string(&options.key).map_err(failed(&options.key))?;
    let seed = bytes_32(text.trim()).ok_or_else(|| {
        let file = options.key.display();
        Exit::failed(format_args!("{file} is no key; `etl module key` makes one"))
    })?;
    let module = fs::read(&options.file).map_err(failed(&options.file))?;
    if !module.starts_with(b"\0asm") {
        let file = options.file.display();
        return Err(Exit::failed(format_args!("{file} is not a WASM file")));
    }
    let signed = signature::sign(&module, &SigningKey::from_bytes(&seed));
    let out = options.out.as_ref().unwrap_or(&options.file);
    let mut name = out.clone().into_os_string();
    name.push(".new");
    let beside = Path::new(&name);
    // On the disk before it takes the other's place, or a power failure could leave neither.
    File::create(beside)
        .and_then(|mut file| {
            file.write_all(&signed)?;
            file.sync_all()
        })
        .map_err(failed(beside))?;
    fs::rename(beside, out).map_err(failed(out))
}

/// Says who has signed a module.
pub fn verify(options: &VerifyOptions) -> Result<(), Exit> {
    let module = fs::read(&options.file).map_err(failed(&options.file))?;
    let trusted: Vec<[u8; 32]> = options.trusted.iter().map(|key| key.0).collect();
    let file = options.file.display();
    match signature::verify(&module, &trusted) {
        Ok(key) => output::print(&format!("{file}: signed with {}\n", hexadecimal(&key))),
        Err(error) => Err(Exit::failed(format_args!("{file}: {error}"))),
    }
}

/// 32 bytes out of 64 hexadecimal digits.
pub fn bytes_32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).ok()?;
    }
    Some(bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
