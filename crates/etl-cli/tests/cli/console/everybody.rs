//! The console for everybody: without a mouse, on a phone, and through the eyes of a tool that finds what shuts people out.
//!
//! That tool is axe-core, a file that is fetched and never committed: `AXE_CORE` names it, or it is where `.ci/run` puts it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{MANY, made, run, sign_in, view};
use crate::admin::create;
use crate::browser::Browser;
use crate::topics::desk;

const VIEWS: [&str; 7] = [
    "Pipelines",
    "Explain",
    "Modules",
    "Dead letters",
    "Generations",
    "Audit",
    "Health",
];

/// The dialog is open and has the focus.
const ASKED: &str = "document.getElementById('dialog').open && document.getElementById('dialog').contains(document.activeElement)";

#[test]
fn all_of_it_works_by_keyboard_and_on_a_phone() {
    let Some(mut browser) = Browser::start("the console in a browser: keyboard and phone") else {
        return;
    };
    let desk = desk();
    let admin = create(&desk, "admin", "admin");
    let running = run(&desk, MANY);
    let browser = &mut browser;
    browser.look(1280, 800, "light");
    browser.open(&format!("http://{}/", running.address));

    // The field has the focus from the beginning.
    browser.until("document.activeElement?.id === 'token'");
    browser.type_text(&admin);
    browser.key("Enter");
    browser.until("document.querySelector('[data-pipeline=p]')");
    // In a view where nothing can be reached, what comes next is the beginning.
    view(browser, "Health");
    browser.until("document.querySelector('main dl.figures')");
    // The first step skips to the content, the next ones are the views.
    browser.eval("document.activeElement.blur()");
    for expected in ["Skip to the content", "Pipelines", "Explain"] {
        browser.key("Tab");
        assert_eq!(browser.eval("document.activeElement.textContent"), expected);
        let outline = browser.eval("getComputedStyle(document.activeElement).outlineStyle");
        assert_eq!(outline, "solid", "where the focus is, is seen");
    }
    browser.tab_to("focused.textContent === 'Pipelines'");
    browser.key("Enter");
    browser.until("document.querySelector('[data-pipeline=p]')");
    // One of a thousand is found and switched on; who changes their mind leaves by Escape.
    browser.tab_to("focused.type === 'search'");
    browser.type_text("z-0417");
    browser.until("document.querySelectorAll('[data-pipeline]').length === 1 && document.querySelector('[data-pipeline=z-0417]')");
    browser.tab_to("focused.textContent === 'Enable'");
    browser.key("Enter");
    browser.until(ASKED);
    browser.key("Escape");
    browser.until("!document.getElementById('dialog').open");
    // The focus is back a moment before the button's work is over, and until then it cannot be pressed again.
    browser.until("document.activeElement.textContent === 'Enable' && document.activeElement.ariaDisabled !== 'true'");
    browser.key("Enter");
    browser.until(ASKED);
    browser.tab_to("focused.id === 'dialog-yes'");
    browser.key("Enter");
    made(browser, 2);
    browser.until("!document.querySelector('[data-pipeline=z-0417] .badge')");
    browser.tab_to("focused.textContent === 'Generations'");
    browser.key("Enter");
    browser.until("document.querySelector('main h1')?.textContent === 'Generations'");
    browser.tab_to("focused.textContent === 'Roll back'");
    browser.key("Enter");
    browser.until(ASKED);
    browser.tab_to("focused.id === 'dialog-yes'");
    browser.key("Enter");
    made(browser, 3);
    browser.tab_to("focused.textContent === 'Sign out'");
    browser.key("Enter");
    browser.until("document.activeElement.id === 'token'");

    // On a phone nothing is wider than the screen, in any view.
    for width in [360, 390] {
        browser.look(width, 780, "dark");
        if width == 360 {
            sign_in(browser, &admin, "admin (admin)");
        }
        for name in VIEWS {
            view(browser, name);
            browser.until("document.querySelector('main').textContent.length > 40");
            let wide = browser.eval("document.documentElement.scrollWidth");
            let widest = "[...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > innerWidth && !one.closest('.scroll')).map((one) => one.outerHTML.slice(0, 120))";
            let widest = browser.eval(widest);
            assert!(
                wide.as_u64() <= Some(u64::from(width)),
                "{name} is {wide} wide: {widest:#}"
            );
        }
    }
    assert_eq!(browser.complaints, [""; 0]);
    running.kill();
}

/// The tool, if it is here.
fn axe() -> Option<String> {
    let fetched = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/axe");
        root.join("package/axe.min.js")
    };
    let path = std::env::var_os("AXE_CORE").map_or_else(fetched, PathBuf::from);
    fs::read_to_string(path).ok()
}

/// What axe-core finds in what is shown, of what is serious.
fn found(browser: &mut Browser, tool: &str) -> Vec<Value> {
    if browser.eval("typeof axe") == "undefined" {
        browser.eval(&format!("{tool}; undefined"));
    }
    let found = browser.eval(
        "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations
            .filter(({ impact }) => ['serious', 'critical'].includes(impact))
            .map(({ id, help, nodes }) => ({ id, help, nodes: nodes.slice(0, 3).map(({ html, failureSummary }) => ({ html, failureSummary })) })))",
    );
    found.as_array().cloned().unwrap_or_default()
}

#[test]
fn nothing_in_it_shuts_anybody_out() {
    let Some(tool) = axe() else {
        println!(
            "skipped: the console under axe-core: `npm pack axe-core`, unpack it and name axe.min.js in AXE_CORE"
        );
        return;
    };
    let Some(mut browser) = Browser::start("the console under axe-core") else {
        return;
    };
    let desk = desk();
    let admin = create(&desk, "admin", "admin");
    let running = run(&desk, 20);
    let browser = &mut browser;
    browser.look(1280, 800, "light");
    browser.open(&format!("http://{}/", running.address));
    browser.until("document.getElementById('token')");
    let mut serious = vec![("Sign in", "light", found(browser, &tool))];
    sign_in(browser, &admin, "admin (admin)");
    for scheme in ["light", "dark"] {
        browser.look(1280, 800, scheme);
        for name in VIEWS {
            view(browser, name);
            match name {
                "Pipelines" => browser.press("Document"),
                "Modules" => browser.press("Upload a module"),
                "Generations" => browser.press("What changed"),
                "Dead letters" => browser.until("document.querySelector('#letters .card')"),
                "Explain" => {
                    browser.eval("document.getElementById('explain-topic').value = 'in'; document.getElementById('explain-record').value = '\"bad\"'; document.querySelector('main form').requestSubmit()");
                    browser.until("document.querySelector('.step')");
                }
                _ => {}
            }
            serious.push((name, scheme, found(browser, &tool)));
        }
    }
    // What is asked stands in front of everything else.
    view(browser, "Pipelines");
    browser.press("Disable");
    browser.until("document.getElementById('dialog').open");
    serious.push(("a question", "dark", found(browser, &tool)));
    serious.retain(|(_, _, found)| !found.is_empty());
    assert!(serious.is_empty(), "{:#}", json!(serious));
    assert_eq!(browser.complaints, [""; 0]);
    running.kill();
}
