;; ends: Timeout
(func $attack
  (drop (memory.grow (i32.const 900)))
  (loop $l (memory.fill (i32.const 262144) (i32.const 1) (i32.const 58000000)) (br $l)))
