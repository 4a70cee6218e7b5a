;; ends: Timeout
(func $attack
  (drop (memory.grow (i32.const 900)))
  (loop $l (memory.copy (i32.const 262144) (i32.const 262145) (i32.const 58000000)) (br $l)))
