;; ends: Timeout
(func $attack
  (loop $l (loop $m (br_if $m (i32.const 0))) (br $l)))
