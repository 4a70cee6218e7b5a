;; ends: Timeout
(func $f (nop))
(func $attack
  (loop $l (call $f) (br $l)))
