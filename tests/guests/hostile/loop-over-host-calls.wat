;; ends: Timeout
(import "etl" "now" (func $now (result i64)))
(func $attack
  (loop $l (drop (call $now)) (br $l)))
