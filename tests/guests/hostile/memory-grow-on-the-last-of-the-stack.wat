;; ends: Trap
(func $f (result i32) (drop (memory.grow (i32.const 0))) (i32.add (call $f) (i32.const 1)))
(func $attack
  (drop (call $f)))
