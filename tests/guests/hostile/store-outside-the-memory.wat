;; ends: Trap
(func $attack
  (v128.store (i32.const 262130) (v128.const i64x2 1 1)))
