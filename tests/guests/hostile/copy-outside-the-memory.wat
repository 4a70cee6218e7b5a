;; ends: Trap
(func $attack
  (memory.copy (i32.const 0) (i32.const 262143) (i32.const 300000)))
