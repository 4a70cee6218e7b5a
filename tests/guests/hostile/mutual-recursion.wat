;; ends: Trap
(func $f (param i32) (result i32) (i32.add (call $g (local.get 0)) (i32.const 1)))
(func $g (param i32) (result i32) (i32.sub (call $f (local.get 0)) (i32.const 1)))
(func $attack
  (drop (call $f (i32.const 1))))
