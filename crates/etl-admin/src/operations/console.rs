//! The console: one page, its looks and its program, out of this binary. Nothing is built and nothing comes from elsewhere.
//!
//! Whoever knows the address may have these files: they say nothing, and everything that they show comes from the API, which asks who it is.

use crate::answer::Answer;
use crate::call::Call;
use crate::site::Site;

/// Only what this server gives is run or applied, nothing that stands in the page itself is, and nobody may put the page into theirs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! programs {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../console/", $name)))),*]
    };
}

const PROGRAMS: &[(&str, &str)] = programs![
    "api.js",
    "audit.js",
    "dom.js",
    "explain.js",
    "format.js",
    "generations.js",
    "health.js",
    "letters.js",
    "main.js",
    "modules.js",
    "pipelines.js"
];

pub(crate) fn page(_site: &Site, _call: &Call) -> Result<Answer, Answer> {
    let text = include_str!("../console/index.html");
    Ok(served("text/html; charset=utf-8", text))
}

pub(crate) fn looks(_site: &Site, _call: &Call) -> Result<Answer, Answer> {
    let text = include_str!("../console/console.css");
    Ok(served("text/css; charset=utf-8", text))
}

pub(crate) fn icon(_site: &Site, _call: &Call) -> Result<Answer, Answer> {
    let text = include_str!("../console/console.svg");
    Ok(served("image/svg+xml", text))
}

pub(crate) fn program(_site: &Site, call: &Call) -> Result<Answer, Answer> {
    let name = call.parameter("file");
    let found = PROGRAMS.iter().find(|(own, _)| *own == name);
    let (_, text) = found.ok_or_else(|| Answer::problem(404, "the console has no such file"))?;
    Ok(served("text/javascript; charset=utf-8", text))
}

fn served(kind: &'static str, text: &str) -> Answer {
    Answer::new(kind, text)
        .header("content-security-policy", POLICY)
        .header("cross-origin-opener-policy", "same-origin")
        .header("referrer-policy", "no-referrer")
}
