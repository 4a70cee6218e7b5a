;; ends: Trap
(func $attack
  (memory.fill (i32.const 1) (i32.const 1) (i32.const -1)))
