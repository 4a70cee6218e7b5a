;; ends: Timeout
(import "etl" "log" (func $log (param i32 i32 i32)))
(func $attack
  (loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 262144)) (br $l)))
