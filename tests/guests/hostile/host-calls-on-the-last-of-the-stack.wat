;; ends: Trap
(import "etl" "log" (func $log (param i32 i32 i32)))
(func $f (result i32) (call $log (i32.const 1) (i32.const 0) (i32.const 64)) (i32.add (call $f) (i32.const 1)))
(func $attack
  (drop (call $f)))
