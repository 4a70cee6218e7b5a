//! Each role sees what it may, figures move, and what is done is done.

use serde_json::json;

use super::{MANY, OFFERED, buttons, confirm, figure, run, sign_in, view};
use crate::admin::create;
use crate::browser::Browser;
use crate::topics::desk;

#[test]
fn each_role_sees_and_does_what_it_may() {
    let Some(mut browser) = Browser::start("the console in a browser") else {
        return;
    };
    let desk = desk();
    let [viewer, operator, admin] =
        ["viewer", "operator", "admin"].map(|role| create(&desk, role, role));
    let running = run(&desk, MANY);
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
    assert!(!buttons(browser).contains(&"Disable".to_owned()));
    browser.until(&format!("{} === '8'", figure("records in")));
    browser.until(&format!("{}.includes('3')", figure("dead letters")));
    // One among a thousand is found by typing.
    browser.eval("document.querySelector('input[type=search]').focus()");
    browser.type_text("Z-0999");
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
    confirm(browser);
    browser.until("document.getElementById('notice').textContent.startsWith('3 sent back')");
    browser.press("Pipelines");
    // They came again: a counter moves. The record that was explained is not counted.
    browser.until(&format!("{} === '11'", figure("records in")));
    // Rates come with the second look.
    browser.until(&format!("{} !== '–'", figure("in")));
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
    confirm(browser);
    browser.until("document.querySelector('[data-pipeline=p] .badge')?.textContent === 'disabled'");
    browser.press("Generations");
    // What cannot be had is said, and can be had later.
    browser.eval("globalThis.whole = fetch; globalThis.fetch = (url, options) => String(url).includes('/generations/') ? Promise.reject(new Error('nobody answers')) : whole(url, options); 0");
    browser.press("What changed");
    browser.until("document.getElementById('notice').textContent === 'nobody answers'");
    browser.eval("globalThis.fetch = () => Promise.reject(new Error('all is away')); 0");
    browser.until("document.getElementById('notice').textContent === 'all is away'");
    // Also a view that was not there before comes with the engine.
    browser.press("Modules");
    browser.until("document.getElementById('notice').textContent === 'all is away'");
    browser.eval("globalThis.fetch = whole; 0");
    browser.until("document.querySelector('[data-module=picky] code')");
    browser.until("document.getElementById('notice').textContent === ''");
    browser.press("Generations");
    browser.press("What changed");
    browser.until("document.querySelector('#difference td code')?.textContent === 'enabled'");
    browser.press("Roll back");
    confirm(browser);
    browser.until("document.getElementById('notice').textContent.startsWith('Done: generation 3')");
    assert_eq!(browser.eval(&format!("{OFFERED}.includes('Audit')")), false);
    browser.press("Sign out");

    // An admin sees what was done; the others are refused all the same.
    sign_in(browser, &admin, "admin (admin)");
    browser.press("Audit");
    browser.until("document.querySelector('main').textContent.includes('POST /api/v1/dead-letters/redrive?topic=out.in.dlq')");
    view(browser, "Modules");
    browser.until("document.querySelector('[data-module=picky] code')");
    view(browser, "Health");
    browser.until("document.querySelector('main dl.figures')");

    assert_eq!(browser.complaints, [""; 0]);
    running.kill();
}
