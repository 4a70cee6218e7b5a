//! The signals of the program that embeds a pool: its own handlers, set before, are called for what is its own.
//!
//! The runtime handles SIGSEGV to catch what guests do. A program may have had a handler for its own faults and signals before. One test, because
//! handlers belong to the process.

#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use common::{in_ms, on_poison, pool, records, template, words};
use etl_pool::FailureKind;

static FAULTS: AtomicUsize = AtomicUsize::new(0);
static USER_SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// A page that the program reads although it may not, as a garbage collector or a memory map may do on purpose.
static OWN_PAGE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

const PAGE: usize = 4096;

/// Makes the page readable, so that the instruction that faulted succeeds when it is tried again.
extern "C" fn on_fault(_: libc::c_int, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let page = OWN_PAGE.load(Ordering::SeqCst);
    // SAFETY: the kernel passes valid information.
    let address = unsafe { (*information).si_addr() };
    if address != page {
        // SAFETY: ends the process; nothing can be said more safely in a signal handler.
        unsafe { libc::abort() };
    }
    FAULTS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the page is this program's own mapping.
    unsafe { libc::mprotect(page, PAGE, libc::PROT_READ) };
}

extern "C" fn on_user_signal(_: libc::c_int) {
    USER_SIGNALS.fetch_add(1, Ordering::SeqCst);
}

fn handle(signal: libc::c_int, handler: usize, flags: libc::c_int) {
    // SAFETY: a zeroed action is a valid one, and the handlers above do only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigemptyset(&raw mut action.sa_mask);
        assert_eq!(
            libc::sigaction(signal, &raw const action, std::ptr::null_mut()),
            0
        );
    }
}

/// Reads the page while it may not be read. Answers whether the program's own handler was called for it, once.
fn own_fault() -> bool {
    let page = OWN_PAGE.load(Ordering::SeqCst);
    let before = FAULTS.load(Ordering::SeqCst);
    // SAFETY: the page is mapped; reading it faults, and the handler makes it readable.
    let byte = unsafe {
        libc::mprotect(page, PAGE, libc::PROT_NONE);
        std::ptr::read_volatile(page.cast::<u8>())
    };
    byte == 0 && FAULTS.load(Ordering::SeqCst) == before + 1
}

fn own_signal() -> bool {
    let before = USER_SIGNALS.load(Ordering::SeqCst);
    // SAFETY: the signal is handled.
    unsafe { libc::raise(libc::SIGUSR1) };
    USER_SIGNALS.load(Ordering::SeqCst) == before + 1
}

#[test]
fn handlers_that_were_there_before_still_work() {
    // SAFETY: a mapping of its own.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    OWN_PAGE.store(page, Ordering::SeqCst);
    let on_fault: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
    let on_user_signal: extern "C" fn(libc::c_int) = on_user_signal;
    handle(
        libc::SIGSEGV,
        on_fault as usize,
        libc::SA_SIGINFO | libc::SA_ONSTACK,
    );
    handle(libc::SIGUSR1, on_user_signal as usize, libc::SA_RESTART);
    assert!(own_fault() && own_signal(), "before there is a pool");

    let pool = pool();
    let ways = [
        ("(drop (i32.load (i32.const -4)))", FailureKind::Trap),
        ("unreachable", FailureKind::Trap),
        (
            "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 250000))))",
            FailureKind::Trap,
        ),
        ("(loop $l (br $l))", FailureKind::Timeout),
    ];
    let run = |round: usize| {
        let mut shelves = pool.shelves();
        for (then, kind) in ways {
            let template = template(&pool, &on_poison("", then));
            let deadline = in_ms(if kind == FailureKind::Timeout {
                20
            } else {
                5_000
            });
            let seen = match shelves.call(&template, &records(&["!"]), deadline) {
                Ok(verdicts) => verdicts.get(0).unwrap_err().kind(),
                Err(error) => error.kind(),
            };
            assert_eq!(seen, kind, "{then}, round {round}");
            assert!(
                own_fault(),
                "a fault of the program's own after {then}, round {round}"
            );
            assert!(
                own_signal(),
                "a signal of the program's own after {then}, round {round}"
            );
            let verdicts = shelves
                .call(&template, &records(&["a"]), in_ms(5_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["=a"]);
        }
    };
    for round in 0..3 {
        run(round);
    }
    // A signal in the middle of a guest is the program's, and the guest does not notice.
    let guest = on_poison(
        "",
        "(loop $l (local.set $end (i32.add (local.get $end) (i32.const 1))) (br_if $l (i32.lt_u (local.get $end) (i32.const 200000000)))) (local.set $end (i32.add (local.get $copy) (local.get $length)))",
    );
    let template = template(&pool, &guest);
    // SAFETY: names this thread, which outlives the one that signals it.
    let this = unsafe { libc::pthread_self() } as usize;
    let done = std::sync::atomic::AtomicBool::new(false);
    let before = USER_SIGNALS.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                // SAFETY: the thread waits for this one.
                unsafe { libc::pthread_kill(this as libc::pthread_t, libc::SIGUSR1) };
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let verdicts = pool
            .shelves()
            .call(&template, &records(&["!"]), in_ms(60_000));
        done.store(true, Ordering::SeqCst);
        assert_eq!(words(&verdicts.unwrap()), ["=!"]);
    });
    assert!(USER_SIGNALS.load(Ordering::SeqCst) > before);
    // Without a pool, and on a thread that has never run a guest.
    drop(pool);
    assert!(own_fault() && own_signal(), "after the pool");
    assert!(
        std::thread::spawn(|| own_fault() && own_signal())
            .join()
            .unwrap()
    );
}
