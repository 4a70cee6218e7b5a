;; ends: Timeout
(table $t 100000 funcref)
(func $attack
  (loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 100000)) (br $l)))
