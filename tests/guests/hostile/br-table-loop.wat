;; ends: Timeout
(func $attack
  (loop $l (br_table $l $l $l (i32.const 7))))
