;; ends: Timeout
(func $attack
  (loop $l (drop (memory.grow (i32.const 65535))) (br $l)))
