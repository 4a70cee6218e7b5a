;; ends: Trap
(func $attack
  (drop (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 250000)) (i32.const 1)))))
