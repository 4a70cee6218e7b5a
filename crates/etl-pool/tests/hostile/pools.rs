//! Pools side by side, and where they end.

use std::sync::Arc;

use etl_pool::Pool;

use crate::common::{in_ms, on_poison, pool, records, template, words};

/// The pool may go on another thread than the one that made it, and two may live side by side.
#[test]
fn pools_live_side_by_side_and_end_anywhere() {
    let (first, second) = (pool(), pool());
    let run = |pool: &Arc<Pool>| {
        let template = template(pool, &on_poison("", "(loop $l (br $l))"));
        let mut shelves = pool.shelves();
        assert!(
            shelves
                .call(&template, &records(&["!"]), in_ms(10))
                .is_err()
        );
        assert_eq!(
            words(
                &shelves
                    .call(&template, &records(&["a"]), in_ms(5_000))
                    .unwrap()
            ),
            ["=a"]
        );
    };
    run(&first);
    std::thread::scope(|scope| {
        scope.spawn(|| run(&first));
        scope.spawn(|| run(&second));
    });
    std::thread::spawn(move || drop(first)).join().unwrap();
    run(&second);
}
