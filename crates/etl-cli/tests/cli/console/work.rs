//! A pipeline breaks, and is mended: why it fails is found, generations and new versions of a module go back, one is promoted, and what
//! had failed goes its way. What a role may not do is not offered in any view, and refused all the same.

use std::path::PathBuf;

use serde_json::json;

use super::{OFFERED, buttons, confirm, figure, made, run, sign_in, view};
use crate::admin::create;
use crate::browser::Browser;
use crate::support::{Desk, KEEP};
use crate::topics::desk;

/// Fails whatever it is given.
const BREAKS: &str = r#"(module
  (memory (export "memory") 64)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_process_v1") (param i32 i32) (result i64) unreachable))"#;

/// A module's file, as somebody who uploads it has it.
fn file(desk: &Desk, name: &str, text: &str) -> PathBuf {
    let wasm = wat::parse_str(text).expect("the module is well-formed");
    desk.put(name, wasm);
    desk.path(name)
}

/// Uploads a file as `picky`, in this way.
fn upload(browser: &mut Browser, file: &std::path::Path, how: &str) {
    view(browser, "Modules");
    browser.eval("document.querySelector('main details').open = true");
    browser.eval("document.querySelector('main details input').value = 'picky'");
    browser.choose("main input[type=file]", file);
    browser.eval(&format!(
        "document.querySelector('main details select').value = {}",
        json!(how)
    ));
    browser.press("Upload");
    confirm(browser);
}

/// Whether a trial of the module says this of itself.
fn trial(state: &str) -> String {
    format!(
        "[...document.querySelectorAll('[data-module=picky] h3')].some((one) => one.textContent.startsWith({}))",
        json!(state)
    )
}

/// Sends every dead letter back.
fn redrive(browser: &mut Browser) {
    view(browser, "Dead letters");
    browser.press("Redrive");
    confirm(browser);
    browser.until("document.getElementById('notice').textContent.startsWith('3 sent back')");
}

/// Looks at the dead letters until there are three of this kind.
fn failed_with(browser: &mut Browser, kind: &str) {
    let meant = format!(
        "[...document.querySelectorAll('#letters .card h3')].filter((one) => one.textContent === {}).length === 3",
        json!(kind)
    );
    browser.until(&format!(
        "{meant} || (document.querySelector('main form').requestSubmit(), false)"
    ));
}

/// From now on half of all records take four microseconds, as the statistics say.
const SHORT_TIMES: &str = r#"
    const real = fetch;
    window.fetch = async (url, options) => {
        const answer = await real(url, options);
        if (!String(url).endsWith("/statistics")) return answer;
        const text = (await answer.text()).replaceAll(/"p50_seconds":[^,}]+/g, '"p50_seconds":4.096e-6');
        return new Response(text, { status: answer.status, headers: answer.headers });
    };"#;

#[test]
fn a_pipeline_breaks_and_is_mended() {
    let Some(mut browser) = Browser::start("the console in a browser: breaking and mending") else {
        return;
    };
    let desk = desk();
    let [viewer, operator, admin] =
        ["viewer", "operator", "admin"].map(|role| create(&desk, role, role));
    let (broken, mended) = (
        file(&desk, "upload/broken.wasm", BREAKS),
        file(&desk, "upload/mended.wasm", KEEP),
    );
    let running = run(&desk, 0);
    let browser = &mut browser;
    browser.look(1280, 900, "light");
    browser.open(&format!("http://{}/", running.address));

    // An admin puts a module in place that breaks the pipeline.
    sign_in(browser, &admin, "admin (admin)");
    browser.until(&format!("{} === '8'", figure("records in")));
    // A short time is written in JSON as no browser would write it: it is a number all the same.
    browser.eval(SHORT_TIMES);
    browser.until(&format!("{} === '≤ 4.1 µs'", figure("half take")));
    upload(browser, &broken, "replace");
    made(browser, 2);
    redrive(browser);
    failed_with(browser, "Trap");
    // The pipeline says that it fails, and how; a record says where and why.
    view(browser, "Pipelines");
    browser.eval("const all = document.querySelector('main select'); all.value = 'failing'; all.dispatchEvent(new Event('change'))");
    browser.until(&format!("{}.includes('Trap 3')", figure("dead letters")));
    view(browser, "Explain");
    browser.eval(
        "document.getElementById('explain-topic').value = 'in'; document.getElementById('explain-record').value = '5'; document.querySelector('main form').requestSubmit()",
    );
    browser.until("document.querySelector('.step .bad')?.textContent === 'failed' && document.querySelector('.step').textContent.includes('unreachable')");
    // The configuration before is in force again.
    view(browser, "Generations");
    browser.press("Roll back");
    confirm(browser);
    made(browser, 3);
    view(browser, "Explain");
    browser.eval(
        "document.getElementById('explain-topic').value = 'in'; document.getElementById('explain-record').value = '5'; document.querySelector('main form').requestSubmit()",
    );
    browser.until("document.querySelector('.step .badge')?.textContent === 'changed' || document.querySelector('.step .badge')?.textContent === 'kept'");
    // A new version that is no better is only compared, and goes again; the next one is tried.
    upload(browser, &broken, "shadow");
    made(browser, 4);
    browser.until(&trial("On trial: shadow"));
    browser.press("Roll back");
    confirm(browser);
    made(browser, 5);
    browser.until(&trial("Rolled back"));
    assert!(!buttons(browser).contains(&"Promote".to_owned()));
    upload(browser, &mended, "canary");
    made(browser, 6);
    browser.until(&trial("On trial: canary, 10 %"));
    browser.press("Sign out");

    // A viewer sees all of it, and is offered nothing that would change it.
    sign_in(browser, &viewer, "viewer (viewer)");
    let looking = [
        "Document",
        "Show more",
        "Look",
        "Older ones",
        "What changed",
        "Explain",
    ];
    for name in [
        "Pipelines",
        "Explain",
        "Modules",
        "Dead letters",
        "Generations",
        "Health",
    ] {
        view(browser, name);
        if name == "Dead letters" {
            browser.until("document.querySelector('#letters .card')");
        }
        for button in buttons(browser) {
            let is_harmless = looking.contains(&&*button);
            assert!(is_harmless, "a viewer is offered {button:?} in {name}");
        }
    }
    let letters = "/api/v1/dead-letters/redrive?topic=out.in.dlq";
    for (method, target) in [
        ("POST", "/api/v1/pipelines/p/disable"),
        ("POST", "/api/v1/modules/picky/promote"),
        ("POST", "/api/v1/modules/picky/rollback"),
        ("POST", "/api/v1/generations/1/rollback"),
        ("POST", "/api/v1/reload"),
        ("POST", letters),
    ] {
        assert_eq!(
            running.ask(&viewer, method, target, None).0,
            403,
            "{target}"
        );
    }
    browser.press("Sign out");

    // An operator gives it every record, redrives, and promotes it; what is new to the machine is an admin's to bring.
    sign_in(browser, &operator, "operator (operator)");
    view(browser, "Modules");
    browser.until(&trial("On trial"));
    assert!(!buttons(browser).contains(&"Upload a module".to_owned()));
    assert_eq!(browser.eval(&format!("{OFFERED}.includes('Audit')")), false);
    for (method, target, body) in [
        ("PUT", "/api/v1/pipelines/p", Some("{}")),
        ("DELETE", "/api/v1/pipelines/p", None),
        ("DELETE", "/api/v1/modules/picky", None),
        ("POST", "/api/v1/validate", Some("{}")),
        ("GET", "/api/v1/audit", None),
    ] {
        let (status, text) = running.ask(&operator, method, target, body);
        assert_eq!(status, 403, "{target}: {text}");
    }
    browser.eval("document.querySelector('[data-module=picky] input[type=number]').value = 100");
    browser.press("Apply");
    made(browser, 7);
    browser.until(&trial("On trial: canary, 100 %"));
    redrive(browser);
    view(browser, "Modules");
    browser.until("document.querySelector('[data-module=picky] section')?.textContent.includes('3 records, 0 failed')");
    browser.press("Promote");
    confirm(browser);
    made(browser, 8);
    browser.until(&format!("!{}", trial("On trial")));
    view(browser, "Dead letters");
    browser.until("document.querySelector('main').textContent.includes('0 dead letters') || document.querySelector('main').textContent.includes('no dead letters')");

    assert_eq!(browser.complaints, [""; 0]);
    running.kill();
}
