;; ends: Trap
(func $f (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
(func $attack
  (drop (call $f (i32.const 1))))
