//! The body of a request, whole or in chunks, up to a limit.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::answer::Answer;
use super::head::Body;

/// What a chunk's length and its extensions may take up; more is somebody playing.
const CHUNK_HEAD: usize = 256;

/// Why a body was not read.
pub(crate) enum BodyError {
    /// The connection is of no use any more.
    Io,
    /// To be told to the client.
    Refused(Answer),
}

impl From<io::Error> for BodyError {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Reads a body of at most `limit` bytes. What was read too much of stays in `buffer`, for the next request.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    body: Body,
    limit: usize,
) -> Result<Vec<u8>, BodyError> {
    match body {
        Body::None => Ok(Vec::new()),
        Body::Length(length) => {
            let length = usize::try_from(length)
                .ok()
                .filter(|length| *length <= limit)
                .ok_or_else(|| too_large(limit))?;
            take(stream, buffer, length).await
        }
        Body::Chunked => chunks(stream, buffer, limit).await,
    }
}

fn too_large(limit: usize) -> BodyError {
    let detail = format!("the body has more than {limit} bytes");
    BodyError::Refused(Answer::problem(413, detail))
}

async fn fill<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 16 << 10];
    match stream.read(&mut chunk).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            buffer.extend_from_slice(&chunk[..count]);
            Ok(())
        }
    }
}

/// So many bytes. Memory grows with what has come and not with what was announced.
async fn take<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    length: usize,
) -> Result<Vec<u8>, BodyError> {
    while buffer.len() < length {
        fill(stream, buffer).await?;
    }
    let rest = buffer.split_off(length);
    Ok(std::mem::replace(buffer, rest))
}

/// A line without its end.
async fn line<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Result<Vec<u8>, BodyError> {
    loop {
        if let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") {
            let line = buffer[..end].to_vec();
            buffer.drain(..end + 2);
            // A line feed of its own could be an end for somebody else.
            return match line.iter().any(|byte| b"\r\n".contains(byte)) {
                true => Err(malformed()),
                false => Ok(line),
            };
        }
        if buffer.len() > CHUNK_HEAD {
            return Err(malformed());
        }
        fill(stream, buffer).await?;
    }
}

fn malformed() -> BodyError {
    BodyError::Refused(Answer::problem(400, "the body's chunks are malformed"))
}

async fn chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    loop {
        let line = line(stream, buffer).await?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = match digits.iter().rposition(|byte| !b" \t".contains(byte)) {
            Some(last) => &digits[..=last],
            None => digits,
        };
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let length = std::str::from_utf8(digits)
            .ok()
            .filter(|_| plain)
            .and_then(|digits| usize::from_str_radix(digits, 16).ok())
            .ok_or_else(malformed)?;
        if length > limit - body.len() {
            return Err(too_large(limit));
        }
        if length == 0 {
            break;
        }
        body.append(&mut take(stream, buffer, length).await?);
        if take(stream, buffer, 2).await? != b"\r\n" {
            return Err(malformed());
        }
    }
    // Trailers are read and not looked at.
    for _ in 0..16 {
        if line(stream, buffer).await?.is_empty() {
            return Ok(body);
        }
    }
    Err(malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(mut bytes: &[u8], body: Body, limit: usize) -> Result<(Vec<u8>, Vec<u8>), u16> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let mut buffer = Vec::new();
        match runtime.block_on(read(&mut bytes, &mut buffer, body, limit)) {
            Ok(body) => Ok((body, buffer)),
            Err(BodyError::Refused(answer)) => Err(answer.status),
            Err(BodyError::Io) => Err(0),
        }
    }

    #[test]
    fn bodies_of_both_kinds() {
        let ok = |body: &[u8], rest: &[u8]| Ok((body.to_vec(), rest.to_vec()));
        assert_eq!(
            read_from(b"abcdGET", Body::Length(4), 4),
            ok(b"abcd", b"GET")
        );
        assert_eq!(read_from(b"abc", Body::Length(4), 4), Err(0));
        assert_eq!(read_from(b"abcde", Body::Length(5), 4), Err(413));
        assert_eq!(read_from(b"", Body::Length(1 << 40), 4), Err(413));
        let chunked = b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: t\r\n\r\nGET";
        assert_eq!(read_from(chunked, Body::Chunked, 4), ok(b"abcd", b"GET"));
        assert_eq!(read_from(chunked, Body::Chunked, 3), Err(413));
        for (bytes, status) in [
            (&b"x\r\n"[..], 400),
            (b"1\n\r\na\r\n0\r\n\r\n", 400),
            (b"1;x\ny\r\na\r\n0\r\n\r\n", 400),
            (b"\r\n", 400),
            (b"-1\r\na", 400),
            (b"+1\r\na\r\n0\r\n\r\n", 400),
            (b"ffffffffffffffffff\r\n", 400),
            (b"ffffffffffffffff\r\n", 413),
            (b"1\r\nabc", 400),
            (b"1\r\na", 0),
            (&[b'0'; 400], 400),
        ] {
            assert_eq!(read_from(bytes, Body::Chunked, 4), Err(status), "{bytes:?}");
        }
    }
}
