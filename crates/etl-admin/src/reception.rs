//! From a request to an operation: which route, who asks, may they, and only then what they sent.
//!
//! axum finds the path. Everything else happens in one order for all routes, and who is asking is settled before a byte of the body is
//! read, so that strangers cannot make the process hold anything. An answer to a request whose body was not read ends the connection.
//!
//! A token is shown by whoever means to. A certificate is shown by a browser to whatever page asks, also one of somebody else: who is known by
//! one changes nothing from such a page.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{RawPathParams, Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{RequestPartsExt, Router};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::access::{Doubt, Identity};
use crate::answer::Answer;
use crate::audit::Attempt;
use crate::call::Call;
use crate::routes::{ROUTES, Route, Takes};
use crate::site::Site;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The SHA-256 of the certificate that it has shown, and that was issued by whom we trust.
    pub(crate) certificate: Option<[u8; 32]>,
}

/// Characters of a target that are written down.
const LONGEST_TARGET: usize = 1024;

/// The routes of one path.
type Methods = Arc<HashMap<&'static str, &'static Route>>;

/// Every route, found by its path. Requests come with their [`Peer`] among their extensions.
pub(crate) fn router(site: Arc<Site>) -> Router {
    let mut by_path: HashMap<&str, HashMap<&'static str, &'static Route>> = HashMap::new();
    for route in ROUTES {
        by_path
            .entry(route.path)
            .or_default()
            .insert(route.method, route);
    }
    let mut router = Router::new();
    for (path, methods) in by_path {
        let methods = Methods::new(methods);
        // Which method it is, is decided here and not by axum: strangers are not told what there is, not even by an `allow` header.
        let serve = move |State(site): State<Arc<Site>>, request: Request| {
            receive(site, Some(methods.clone()), request)
        };
        router = router.route(path, any(serve));
    }
    let nothing = |State(site): State<Arc<Site>>, request| receive(site, None, request);
    router.fallback(nothing).with_state(site)
}

async fn receive(site: Arc<Site>, methods: Option<Methods>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(peer) = parts.extensions.remove::<Peer>() else {
        return Answer::problem(500, "nobody knows who asks").into_response();
    };
    let is_unread = !body.is_end_stream();
    let refused = match admit(&site, &peer, &mut parts, methods).await {
        Ok((call, limit)) => match read(&site, body, limit).await {
            Ok(body) => return answer(site, call, body).await.into_response(),
            Err(refused) => refused,
        },
        Err(refused) => refused,
    };
    match is_unread {
        // What comes next on this connection would be the body.
        true => refused.header("connection", "close").into_response(),
        false => refused.into_response(),
    }
}

/// Settles everything that comes before the body: answers the call and how many bytes of a body are wanted.
async fn admit(
    site: &Arc<Site>,
    peer: &Peer,
    parts: &mut Parts,
    methods: Option<Methods>,
) -> Result<(Call, usize), Answer> {
    let mut attempt = Attempt {
        from: peer.address.to_string(),
        what: format!("{} {}", parts.method, shortened(parts.uri.path())),
        ..Attempt::default()
    };
    let admitted = admit_as(site, peer, parts, methods, &mut attempt).await;
    if let Err(answer) = &admitted
        && matches!(answer.status, 401 | 403)
    {
        site.refuse(attempt, answer).await;
    }
    admitted
}

/// The same. Who it turns out to be goes into the attempt.
async fn admit_as(
    site: &Site,
    peer: &Peer,
    parts: &mut Parts,
    methods: Option<Methods>,
    attempt: &mut Attempt,
) -> Result<(Call, usize), Answer> {
    check_headers(&parts.headers, parts.version)?;
    let (route, parameters) = match find(parts, methods).await {
        Ok(found) => found,
        // What there is and what there is not is told to those who may know.
        Err(nothing) => {
            identify(site, peer, &parts.headers).await?;
            return Err(nothing);
        }
    };
    let identity = match route.role {
        None => None,
        Some(_) => Some(identify(site, peer, &parts.headers).await?),
    };
    if let Some(identity) = &identity {
        attempt.is_by(identity);
        if !parts.headers.contains_key("authorization") && !parts.method.is_safe() {
            check_page(&parts.headers)?;
        }
        site.permit(identity, route, &parameters)?;
    }
    // Those who are known may see their own words in the log.
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    attempt.what = format!("{} {}", parts.method, shortened(target));
    let call = Call::new(route, parameters, identity, parts, attempt.clone())?;
    let limit = match route.takes {
        Takes::Nothing => 0,
        Takes::Document | Takes::Json(_) => site.limits.document_bytes,
        Takes::Wasm => site.limits.module_bytes,
    };
    Ok((call, limit))
}

/// What hyper leaves to whoever answers: which headers must be there, and which may be there once.
fn check_headers(headers: &HeaderMap, version: axum::http::Version) -> Result<(), Answer> {
    for name in ["host", "authorization", "if-match", "content-type"] {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(Answer::problem(400, format!("more than one {name} header")));
        }
    }
    if version == axum::http::Version::HTTP_11 && !headers.contains_key("host") {
        return Err(Answer::problem(400, "no host header"));
    }
    Ok(())
}

/// That a browser asks for no page but one of this server's, as it says itself. Programs say nothing of pages.
fn check_page(headers: &HeaderMap) -> Result<(), Answer> {
    let is_ours = match (
        header(headers, "sec-fetch-site")?,
        header(headers, "origin")?,
    ) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == header(headers, "host")?
        }
        (None, None) => true,
    };
    if is_ours {
        return Ok(());
    }
    let detail =
        "a page of another site asks for this; with a certificate nothing is changed from there";
    Err(Answer::problem(403, detail))
}

/// The value of a header that is there once.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Answer> {
    let value = headers.get(name).map(|value| value.to_str());
    let value = value.transpose();
    value.map_err(|_| Answer::problem(400, format!("the header {name} is not plain text")))
}

/// The route of a request, and the parameters in its path.
async fn find(
    parts: &mut Parts,
    methods: Option<Methods>,
) -> Result<(&'static Route, HashMap<String, String>), Answer> {
    let nothing = || {
        let detail = "there is nothing here; /api/v1/openapi.json says what there is";
        Answer::problem(404, detail)
    };
    let methods = methods.ok_or_else(nothing)?;
    let method = match parts.method.as_str() {
        "HEAD" => "GET",
        method => method,
    };
    let Some(route) = methods.get(method).copied() else {
        let mut allowed: Vec<&str> = methods.keys().copied().collect();
        allowed.sort_unstable();
        let allowed = allowed.join(", ");
        let detail = format!("only {allowed} here");
        return Err(Answer::problem(405, detail).header("allow", allowed));
    };
    if !route.path.contains('{') {
        return Ok((route, HashMap::new()));
    }
    let found = parts.extract::<RawPathParams>().await;
    let found = found.map_err(|_| nothing())?;
    let parameters = found.iter().map(|(name, value)| {
        // An id is never a path: what has to be encoded to be one is nobody's.
        is_plain(value).then(|| (name.to_owned(), value.to_owned()))
    });
    let parameters: Option<_> = parameters.collect();
    Ok((route, parameters.ok_or_else(nothing)?))
}

/// An id that can be one: not a path, not hidden, no control characters.
fn is_plain(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 255
        && !id.starts_with('.')
        && !id.contains(['/', '\\'])
        // It goes into a document in which this would be a variable.
        && !id.contains("${")
        && !id.chars().any(char::is_control)
}

async fn identify(site: &Site, peer: &Peer, headers: &HeaderMap) -> Result<Identity, Answer> {
    let unauthorized = |detail: &str, challenge: &str| {
        Answer::problem(401, detail).header("www-authenticate", challenge)
    };
    let authorization = header(headers, "authorization")?;
    let doubt = match site.gate.identify(authorization, peer).await {
        Ok(identity) => return Ok(identity),
        Err(doubt) => doubt,
    };
    Err(match &doubt {
        Doubt::Nobody => unauthorized(
            "a token is needed: authorization: Bearer etl_…; `etl admin token create` makes one",
            "Bearer",
        ),
        Doubt::Unknown => unauthorized(
            "this token or certificate is not known here",
            "Bearer error=\"invalid_token\"",
        ),
        Doubt::Over(_, state) => unauthorized(
            &format!("this token or certificate is {state}"),
            "Bearer error=\"invalid_token\"",
        ),
        Doubt::LockedOut(left) => {
            let seconds = left.as_secs() + 1;
            let detail = format!("too many wrong tokens came from there; again in {seconds} s");
            Answer::problem(429, detail).header("retry-after", seconds.to_string())
        }
        Doubt::Unreadable => Answer::problem(503, "it cannot be read who may come in"),
    })
}

/// A body, and its part of what all bodies together may take.
struct Held {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

async fn read(site: &Site, body: Body, limit: usize) -> Result<Held, Answer> {
    let patience = site.limits.body_time;
    let read = timeout(patience, read_up_to(site, body, limit)).await;
    read.unwrap_or_else(|_| {
        let seconds = patience.as_secs();
        let detail = format!("the body took longer than {seconds} s");
        Err(Answer::problem(408, detail))
    })
}

/// Reads a body. Memory grows with what has come and not with what was announced.
async fn read_up_to(site: &Site, mut body: Body, limit: usize) -> Result<Held, Answer> {
    let too_large = || Answer::problem(413, format!("the body has more than {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut held = Held {
        bytes: Vec::new(),
        _room: None,
    };
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let broken = |_| Answer::problem(400, "the body is malformed, or ended before its end");
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            // Trailers are read and not looked at.
            continue;
        };
        if data.len() > limit - held.bytes.len() {
            return Err(too_large());
        }
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let room = site.room.clone().try_acquire_many_owned(count);
        let room = room.map_err(|_| {
            let detail = "too much is being sent by all clients together; try again";
            Answer::problem(503, detail).header("retry-after", "1")
        })?;
        match &mut held._room {
            Some(held) => held.merge(room),
            none => *none = Some(room),
        }
        held.bytes.extend_from_slice(&data);
    }
    Ok(held)
}

async fn answer(site: Arc<Site>, mut call: Call, mut body: Held) -> Answer {
    call.body = std::mem::take(&mut body.bytes).into();
    let performed = tokio::task::spawn_blocking(move || {
        let answer = site.perform(&call);
        drop((call, body));
        answer
    });
    performed.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request broke its thread");
        Answer::problem(500, "this request met a mistake in the program")
    })
}

fn shortened(target: &str) -> &str {
    match target.char_indices().nth(LONGEST_TARGET) {
        None => target,
        Some((end, _)) => &target[..end],
    }
}
