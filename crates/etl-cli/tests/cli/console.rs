//! The console in a real browser, on a run that goes on: each role sees what it may, figures move, and what is done is done.

use serde_json::json;

use crate::admin::{Running, create};
use crate::browser::Browser;
use crate::support::Desk;
use crate::topics::{desk, lines};

/// As many pipelines as the console is meant for, beside the one that works.
const MANY: usize = 1000;

fn run(desk: &Desk) -> Running {
    let mut configuration = desk.read("etl.toml");
    for n in 0..MANY {
        configuration.push_str(&format!(
            "[[pipelines]]\npipeline_id = \"z-{n:04}\"\nenabled = false\nstages = [{{ priority = 0, modules = [{{ module_id = \"picky\", topic_filters = [{{ filter_type = \"Exact\", pattern = \"z.{n}\" }}] }}] }}]\n"
        ));
    }
    desk.put("etl.toml", configuration);
    let bad = "{\"topic\":\"in\",\"value\":\"bad <img src=x onerror=alert(1)>\"}\n";
    let input = lines(5) + &bad.repeat(3);
    let send = ["send", "--to", "embedded:data", "--create"];
    desk.etl_with_input(&send, input.as_bytes()).ends_with(0);
    Running::spawn(desk.command(&[
        "run",
        "etl.toml",
        "--from",
        "embedded:data?topics=in&follow",
        "--to",
        "embedded:data?prefix=out.",
        "--lanes",
        "1",
        "--admin",
        "127.0.0.1:0",
    ]))
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

const OFFERED: &str =
    "[...document.querySelectorAll('nav a')].map((view) => view.textContent).join()";
const BUTTONS: &str = "[...document.querySelectorAll('main button')].map((one) => one.textContent)";

/// The figure of this name on the pipeline's card.
fn figure(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('[data-pipeline=p] dl.figures div')].find((one) => one.firstChild.textContent === '{name}')?.lastChild.textContent"
    )
}

#[test]
fn each_role_sees_and_does_what_it_may() {
    let Some(mut browser) = Browser::start("the console in a browser") else {
        return;
    };
    let desk = desk();
    let [viewer, operator, admin] =
        ["viewer", "operator", "admin"].map(|role| create(&desk, role, role));
    let running = run(&desk);
    let browser = &mut browser;
    browser.look(1280, 800, "light");
    browser.open(&format!("http://{}/", running.address));

    // A viewer looks.
    sign_in(browser, &viewer, "viewer (viewer)");
    assert_eq!(
        browser.eval(OFFERED),
        "Pipelines,Explain,Modules,Dead letters,Generations,Health"
    );
    browser.until("document.querySelector('[data-pipeline=p]')");
    assert_eq!(
        browser.eval("document.querySelectorAll('[data-pipeline]').length"),
        40
    );
    browser
        .until("document.querySelector('main').textContent.includes('1,001 of 1,001 pipelines')");
    assert_eq!(
        browser.eval(&format!("{BUTTONS}.includes('Disable')")),
        false
    );
    browser.until(&format!("{} === '8'", figure("records in")));
    browser.until(&format!("{}.includes('3')", figure("dead letters")));
    let filter = "document.querySelector('input[type=search]')";
    browser.eval(&format!(
        "{filter}.value = 'Z-0999'; {filter}.dispatchEvent(new Event('input'))"
    ));
    browser.until("document.querySelectorAll('[data-pipeline]').length === 1 && document.querySelector('[data-pipeline=z-0999]')");
    browser.press("Dead letters");
    browser.until("document.querySelectorAll('#letters .card').length === 3");
    assert_eq!(
        browser.eval("document.getElementById('redrive')"),
        json!(null)
    );
    assert_eq!(
        browser.eval("document.getElementById('letters').textContent.includes('onerror')"),
        false
    );
    browser.press("Sign out");

    // An operator finds out why, and does something about it.
    sign_in(browser, &operator, "operator (operator)");
    browser.press("Explain");
    browser.until("document.getElementById('explain-record')");
    browser.eval(
        "document.getElementById('explain-topic').value = 'in'; document.getElementById('explain-record').value = '\"bad 12345678901234567890\"'; document.querySelector('main form').requestSubmit()",
    );
    browser.until("document.querySelector('.step .bad')?.textContent === 'failed'");
    browser.press("Dead letters");
    browser.until("document.querySelector('#letters meter')?.value === 3");
    // What a record holds is text, whatever it looks like.
    browser.until("document.querySelector('#letters pre').textContent.includes('<img src=x')");
    browser.press("Redrive");
    browser.until("document.getElementById('dialog').open");
    browser.eval("document.getElementById('dialog-yes').click()");
    browser.until("document.getElementById('notice').textContent.startsWith('3 sent back')");
    browser.press("Pipelines");
    // They came again: a counter moves. The record that was explained is counted too.
    browser.until(&format!("{} === '12'", figure("records in")));
    let background = "getComputedStyle(document.body).backgroundColor";
    let mut backgrounds = Vec::new();
    for (scheme, name) in [("light", "console-light.png"), ("dark", "console-dark.png")] {
        browser.look(1100, 640, scheme);
        backgrounds.push(browser.eval(background));
        browser.picture(name);
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    browser.look(1280, 800, "light");
    browser.press("Disable");
    browser.until("document.getElementById('dialog').open");
    browser.eval("document.getElementById('dialog-yes').click()");
    browser.until("document.querySelector('[data-pipeline=p] .badge')?.textContent === 'disabled'");
    browser.press("Generations");
    browser.press("What changed");
    browser.until("document.querySelector('#difference td code')?.textContent === 'enabled'");
    browser.press("Roll back");
    browser.until("document.getElementById('dialog').open");
    browser.eval("document.getElementById('dialog-yes').click()");
    browser.until("document.getElementById('notice').textContent.startsWith('Done: generation 3')");
    assert_eq!(browser.eval(&format!("{OFFERED}.includes('Audit')")), false);
    browser.press("Sign out");

    // An admin sees what was done; the others are refused all the same.
    sign_in(browser, &admin, "admin (admin)");
    browser.press("Audit");
    browser.until("document.querySelector('main').textContent.includes('POST /api/v1/dead-letters/redrive?topic=out.in.dlq')");
    browser.press("Modules");
    browser.until("document.querySelector('[data-module=picky] code')");
    browser.press("Health");
    browser.until("document.querySelector('main dl.figures')");

    // By keyboard alone: the first step skips to the content, the next ones are the views.
    browser.eval("document.activeElement.blur()");
    for expected in ["Skip to the content", "Pipelines", "Explain"] {
        for kind in ["keyDown", "keyUp"] {
            let key =
                json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
            browser.call("Input.dispatchKeyEvent", key);
        }
        assert_eq!(browser.eval("document.activeElement.textContent"), expected);
    }

    // On a phone nothing is wider than the screen, in any view.
    browser.look(390, 844, "dark");
    for view in [
        "Pipelines",
        "Explain",
        "Modules",
        "Dead letters",
        "Generations",
        "Audit",
        "Health",
    ] {
        browser.press(view);
        browser.until("document.querySelector('main h1 + div')?.childNodes.length > 0");
        let width = browser.eval("document.documentElement.scrollWidth");
        assert!(width.as_u64() <= Some(390), "{view} is {width} wide");
    }

    assert_eq!(browser.complaints, [""; 0]);
    running.kill();
}
