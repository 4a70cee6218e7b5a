//! The console in a real browser, on a run that goes on.
//!
//! `roles`: who sees and may do what. `work`: a pipeline breaks, and is mended. `everybody`: by keyboard alone, on a phone, and for those
//! who do not see it as others do.

mod everybody;
mod roles;
mod work;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::serving::Running;
use crate::support::Desk;
use crate::topics::lines;

/// As many pipelines as the console is meant for, beside the one that works.
const MANY: usize = 1000;

/// A run of the desk's pipeline, with 5 records that it takes and 3 that it cannot take; it waits for more.
fn run(desk: &Desk, others: usize) -> Running {
    let mut configuration = desk.read("etl.toml");
    for n in 0..others {
        configuration.push_str(&format!(
            "[[pipelines]]\npipeline_id = \"z-{n:04}\"\nenabled = false\nstages = [{{ priority = 0, modules = [{{ module_id = \"picky\", topic_filters = [{{ filter_type = \"Exact\", pattern = \"z.{n}\" }}] }}] }}]\n"
        ));
    }
    desk.put("etl.toml", configuration);
    let bad = "{\"topic\":\"in\",\"value\":\"bad <img src=x onerror=alert(1)>\"}\n";
    let input = lines(5) + &bad.repeat(3);
    let send = ["send", "--to", "embedded:data", "--create"];
    desk.etl_with_input(&send, input.as_bytes()).ends_with(0);
    Running::following(desk)
}

fn sign_in(browser: &mut Browser, token: &str, who: &str) {
    browser.until("document.getElementById('token')");
    browser.eval(&format!(
        "document.getElementById('token').value = {}; document.querySelector('form.sign-in').requestSubmit()",
        json!(token)
    ));
    browser.until(&format!(
        "document.getElementById('who').textContent.startsWith({}) && document.querySelector('main h1 + div')",
        json!(who)
    ));
}

/// Goes to a view, and waits until it shows something.
fn view(browser: &mut Browser, name: &str) {
    browser.press(name);
    browser.until(&format!(
        "document.querySelector('main h1')?.textContent === {} && document.querySelector('main h1 + div')?.childNodes.length > 0",
        json!(name)
    ));
}

/// Says yes to what is asked.
fn confirm(browser: &mut Browser) {
    browser.until("document.getElementById('dialog').open");
    browser.eval("document.getElementById('dialog-yes').click()");
}

/// Waits until it is said that a change was made, and which generation it is.
fn made(browser: &mut Browser, generation: u64) {
    browser.until(&format!(
        "document.getElementById('notice').textContent.startsWith('Done: generation {generation}.')"
    ));
}

const OFFERED: &str =
    "[...document.querySelectorAll('nav a')].map((view) => view.textContent).join()";

/// The buttons of the view, one after the other.
fn buttons(browser: &mut Browser) -> Vec<String> {
    let texts = browser.eval(
        "[...document.querySelectorAll('main button, main summary')].map((one) => one.textContent)",
    );
    let texts = texts.as_array().into_iter().flatten();
    texts.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The figure of this name on the pipeline's card.
fn figure(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('[data-pipeline=p] dl.figures div')].find((one) => one.firstChild.textContent === '{name}')?.lastChild.textContent"
    )
}
