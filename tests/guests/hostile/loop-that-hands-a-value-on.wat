;; ends: Timeout
(func $attack
  (i32.const 1)
  (loop $l (param i32) (drop) (br $l (i32.const 1))))
